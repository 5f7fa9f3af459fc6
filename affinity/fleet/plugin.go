//go:build linux

package fleet

import _ "embed"

// DaskPlugin is a Python module (berth_dask.py) that seats the workers of a Dask
// cluster by a plan and gives their receipts.
//
//go:embed python/berth_dask.py
var DaskPlugin string
