package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

func newVersionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "What this berth was built from",
		Long: `Print what this berth was built from: its version, the revision of its source and
whether that was changed, the Go that built it and the machine that it is for.
` + "`go version -m`" + ` prints every module in it.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "berth %s\n", version())
			return err
		},
	}
}

// version is what the go command stamped into this program. Builds with
// -buildvcs=false, and those outside of a repository, have no revision.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{GoVersion: runtime.Version()}
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	name := strings.Trim(info.Main.Version, "()")
	if name == "" {
		name = "devel"
	}
	set := map[string]string{"GOOS": runtime.GOOS, "GOARCH": runtime.GOARCH}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	var of []string
	if revision := set["vcs.revision"]; revision != "" {
		if len(revision) > 12 {
			revision = revision[:12]
		}
		if at, _, ok := strings.Cut(set["vcs.time"], "T"); ok {
			revision += " of " + at
		}
		if set["vcs.modified"] == "true" {
			revision += ", changed"
		}
		of = append(of, "revision "+revision)
	}
	of = append(of, info.GoVersion, set["GOOS"]+"/"+set["GOARCH"])
	return name + " (" + strings.Join(of, "; ") + ")"
}
