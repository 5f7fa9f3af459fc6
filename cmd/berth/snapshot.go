package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"
	"github.com/ulikunitz/xz"

	"berth/probe/snapshot"
)

func newSnapshotCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "snapshot FILE|-",
		Short: "Write this machine to an archive that --sysroot replays elsewhere",
		Long: `Write the files and CPUID answers that describe this machine to a tar archive,
compressed as the name says: .tar, .tar.gz or .tgz, .tar.xz, .tar.zst. "-" writes
a plain archive to standard output.

The archive holds no host name, serial numbers, UUIDs or MAC addresses and
nothing of other users; the names of control groups are replaced, one for one.`,
		Example: `  berth snapshot machine.tar.gz
  berth inspect --sysroot machine.tar.gz    its tree, on any other machine
  berth inspect --cpuid machine.tar.gz      what CPUID alone said there`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeSnapshot(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
}

func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usage("for example: "+cmd.CommandPath()+" machine.tar.gz", "%s takes one file to write, and %d are given", cmd.CommandPath(), len(args))
	}
	return nil
}

// writeSnapshot writes the archive so that its name never stands for half a
// machine.
func writeSnapshot(ctx context.Context, name string, stdout io.Writer) error {
	if name == "-" {
		return snapshot.Write(ctx, stdout)
	}
	compress, err := compressor(name)
	if err != nil {
		return err
	}
	f, err := createAtomic(name)
	if err != nil {
		return fmt.Errorf("write snapshot %s: %w", name, err)
	}
	defer f.discard()
	w, err := compress(f)
	if err == nil {
		err = errors.Join(snapshot.Write(ctx, w), w.Close())
	}
	if err == nil {
		err = f.commit()
	}
	if err != nil {
		return fmt.Errorf("write snapshot %s: %w", name, err)
	}
	return nil
}

// compressor goes by the file's name.
func compressor(name string) (func(io.Writer) (io.WriteCloser, error), error) {
	switch {
	case strings.HasSuffix(name, ".tar"):
		return func(w io.Writer) (io.WriteCloser, error) { return nopCloser{w}, nil }, nil
	case strings.HasSuffix(name, ".gz"), strings.HasSuffix(name, ".tgz"):
		return func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }, nil
	case strings.HasSuffix(name, ".xz"):
		return func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }, nil
	case strings.HasSuffix(name, ".zst"):
		return func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }, nil
	}
	return nil, usage("end it in .tar, .tar.gz, .tar.xz or .tar.zst", "the name %s does not say how to write the archive", name)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
