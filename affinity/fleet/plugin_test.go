//go:build linux

package fleet

import (
	"os"
	"os/exec"
	"testing"
)

// The plug-in has tests of its own.
func TestDaskPlugin(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	c := exec.Command(python, "-W", "error", "-m", "unittest", "-v")
	c.Dir, c.Env = "python", append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := c.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}
