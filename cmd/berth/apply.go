//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"berth/advisor"
	"berth/advisor/emit"
	"berth/advisor/emit/apply"
)

// applyOptions are the flags of emit that write a drop-in or take it back.
type applyOptions struct {
	at, undo, undoFile string
	user, dry, yes     bool
	force              bool
}

func (o *applyOptions) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.at, "apply", "", "write the settings into a drop-in of `WHAT`, after showing the difference ("+strings.Join(apply.Targets(), ", ")+")")
	flags.BoolVar(&o.dry, "dry-run", false, "with --apply, show the difference only")
	flags.BoolVarP(&o.yes, "yes", "y", false, "with --apply, do not ask")
	flags.BoolVar(&o.user, "user", false, "with --apply, systemd's units of the user")
	flags.StringVar(&o.undoFile, "undo-file", "", "with --apply, remember what was there in a `FILE` (default: one below $XDG_STATE_HOME/berth)")
	flags.StringVar(&o.undo, "undo", "", "take back what a `FILE` written by --apply remembers")
	flags.BoolVar(&o.force, "force", false, "with --apply, replace a file that berth did not write; with --undo, one that was changed since")
}

// given refuses its flags where they are about nothing.
func (o *applyOptions) given(cmd *cobra.Command) error {
	for _, name := range [...]string{"dry-run", "yes", "user", "undo-file", "force"} {
		if cmd.Flags().Changed(name) && !cmd.Flags().Changed("apply") {
			return usage("add --apply WHAT, or leave it out", "--%s is about settings to apply", name)
		}
	}
	return nil
}

// run shows what applying the plan changes, asks, and writes.
func (o *applyOptions) run(cmd *cobra.Command, plan *advisor.Plan, target emit.Target, strict bool) error {
	change, err := apply.Find(plan, target, o.at, apply.Options{User: o.user, Force: o.force})
	var foreign *apply.NotOurs
	switch {
	case errors.Is(err, apply.ErrNoDropIn):
		return usage(fmt.Sprintf("berth emit %s prints the settings; those with a drop-in: %s", target.Name(), strings.Join(apply.Targets(), ", ")), "--apply: %s: %w", target.Name(), err)
	case errors.As(err, &foreign):
		return fmt.Errorf("--apply: %w; berth emit %s prints what to add to it", err, target.Name())
	case err != nil:
		return usage("`berth emit --help` says what --apply takes for each target", "--apply %s: %w", o.at, err)
	}
	messages := cmd.ErrOrStderr()
	for _, lost := range change.Lost {
		fmt.Fprintf(messages, "berth: %s cannot express %s\n", target.Name(), lost)
	}
	for _, note := range change.Notes {
		fmt.Fprintf(messages, "berth: %s\n", note)
	}
	if strict && len(change.Lost) > 0 {
		return fmt.Errorf("--strict: not all of the plan is in the settings of %s, and nothing was written", target.Name())
	}
	out := cmd.OutOrStdout()
	if string(change.Old) == string(change.New) {
		_, err := fmt.Fprintf(out, "%s says so already\n", change.Path)
		return err
	}
	before := change.Path
	if change.Old == nil {
		before = os.DevNull
	}
	if _, err := out.Write(diff.Diff(before, change.Old, change.Path, change.New)); err != nil {
		return err
	}
	if o.dry {
		return nil
	}
	if !o.yes {
		if err := agreed(cmd, change.Path); err != nil {
			return err
		}
	}
	return o.write(cmd, change)
}

// agreed asks whether to write; an error: no, or there is nobody to ask.
func agreed(cmd *cobra.Command, path string) error {
	in := cmd.InOrStdin()
	if f, ok := in.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return &statusError{1, errors.New("nothing was written: --yes writes it")}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Write %s? [y/N] ", path)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &statusError{1, errors.New("nothing was written")}
}

// write writes the change, and undoes it if a signal comes meanwhile.
func (o *applyOptions) write(cmd *cobra.Command, change *apply.Change) error {
	undo := o.undoFile
	if undo == "" {
		dir, err := stateDir()
		if err != nil {
			return usage("name a file: --undo-file FILE", "%w", err)
		}
		undo = filepath.Join(dir, undoName("emit-undo", "json"))
	}
	_, caught, stop := untilSignal(cmd.Context())
	defer stop()
	if err := change.Write(undo); err != nil {
		if errors.Is(err, os.ErrExist) {
			return usage("name another, or remove it", "--apply: %w", err)
		}
		return fmt.Errorf("--apply: %w", err)
	}
	if s := caught(); s != 0 {
		err := fmt.Errorf("ended by %s", unix.SignalName(s))
		if _, undone := restored(undo, false); undone != nil {
			err = fmt.Errorf("%w; not undone: %w; try berth emit --undo %s", err, undone, undo)
		} else {
			_ = os.Remove(undo)
			err = fmt.Errorf("%w; what was written is taken back", err)
		}
		return &statusError{128 + int(s), err}
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "written: %s\nundo: berth emit --undo %s\nthen: %s\n", change.Path, undo, change.Then)
	return err
}

// restored takes back what an undo file remembers; nil: all was so already.
func restored(name string, force bool) (*apply.Undo, error) {
	var u *apply.Undo
	f, err := openTrusted(name)
	if err == nil {
		defer f.Close()
		u, err = apply.ReadUndo(f, name)
	}
	if err != nil {
		return nil, usage("give a file that berth emit --apply wrote", "--undo: %w", err)
	}
	did, err := u.Restore(force)
	if err != nil || !did {
		return nil, err
	}
	return u, nil
}

func (o *applyOptions) runUndo(cmd *cobra.Command, args []string) error {
	for _, name := range [...]string{"plan", "profile", "check", "format", "output", "strict", "apply", "dry-run", "yes", "user", "undo-file"} {
		if cmd.Flags().Changed(name) {
			return usage("give --undo alone", "--undo takes back what its file says, and --%s says something else", name)
		}
	}
	if len(args) > 0 {
		return usage("give --undo alone", "--undo takes back what its file says, and %s is a target", args[0])
	}
	u, err := restored(o.undo, o.force)
	if errors.Is(err, apply.ErrChanged) {
		return &statusError{1, fmt.Errorf("--undo: %w; --force takes it back all the same", err)}
	}
	if err != nil {
		return err
	}
	message := "all is as it was: nothing to undo\n"
	if u != nil {
		message = fmt.Sprintf("restored: %s\nthen: %s\n", u.Path, u.Then)
		if u.Old == nil {
			message = fmt.Sprintf("removed: %s\nthen: %s\n", u.Path, u.Then)
		}
	}
	removeOwn(o.undo)
	_, err = io.WriteString(cmd.OutOrStdout(), message)
	return err
}
