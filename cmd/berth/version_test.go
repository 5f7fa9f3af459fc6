package main

import (
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	set := func(pairs ...string) (out []debug.BuildSetting) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, debug.BuildSetting{Key: pairs[i], Value: pairs[i+1]})
		}
		return out
	}
	for _, c := range []struct {
		info debug.BuildInfo
		want string
	}{
		{debug.BuildInfo{GoVersion: "go1.26.1", Main: debug.Module{Version: "(devel)"}, Settings: set("GOOS", "linux", "GOARCH", "arm64")},
			"devel (go1.26.1; linux/arm64)"},
		{debug.BuildInfo{GoVersion: "go1.26.1", Main: debug.Module{Version: "v1.2.3"},
			Settings: set("GOOS", "linux", "GOARCH", "amd64", "vcs.revision", "0123456789abcdef0123", "vcs.time", "2026-03-04T05:06:07Z", "vcs.modified", "false")},
			"v1.2.3 (revision 0123456789ab of 2026-03-04; go1.26.1; linux/amd64)"},
		{debug.BuildInfo{GoVersion: "go1.26.1", Settings: set("GOOS", "linux", "GOARCH", "amd64", "vcs.revision", "ab", "vcs.modified", "true")},
			"devel (revision ab, changed; go1.26.1; linux/amd64)"},
	} {
		if got := versionOf(&c.info); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}
