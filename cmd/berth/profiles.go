package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"

	"berth/profiles"
)

const profileHint = "`berth profiles new native` shows every field and what it takes"

func newProfilesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profiles COMMAND",
		Short: "List, show, check and begin descriptions of workloads",
		Long: `A profile says in a few lines of YAML what one task of a workload costs, what it
waits for and what limits it. Some come with berth; "new" begins one of your own.`,
		Example: `  berth profiles list
  berth profiles new python > mine.yaml      then set what you know
  berth profiles validate mine.yaml`,
		Args: noSuchProfilesCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "list",
			Short: "List the profiles that come with berth",
			Args:  noArgs,
			RunE:  func(cmd *cobra.Command, _ []string) error { return listProfiles(cmd) },
		},
		&cobra.Command{
			Use:     "show NAME",
			Short:   "Print a profile that comes with berth, with the sources of its figures",
			Example: "  berth profiles show thumbnailer > mine.yaml",
			Args:    oneOf("profile", profiles.Shipped),
			RunE: func(cmd *cobra.Command, args []string) error {
				text, err := profiles.Source(args[0])
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(text)
				return err
			},
			ValidArgsFunction: completeOneOf(profiles.Shipped),
		},
		&cobra.Command{
			Use:   "validate FILE...",
			Short: "Check profiles, and say all that is wrong with them",
			Long: `Check profiles; "-" is standard input. Every mistake is a line of its own on
standard error, FILE:LINE:COLUMN: what is wrong; what to do. The exit status is 0
if all are fine, 2 if not.`,
			RunE: validateProfiles,
			ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
			},
		},
		&cobra.Command{
			Use:   "new RUNTIME",
			Short: "Print a profile to fill in, with every field explained",
			Long: `Print a profile to fill in. It plans as it stands, and shows every field there
is with what it takes. RUNTIME is what executes the tasks: ` + strings.Join(runtimeNames()[:4], ", ") + `,
` + strings.Join(runtimeNames()[4:], ", ") + `.`,
			Example: "  berth profiles new go > mine.yaml",
			Args:    oneOf("runtime", runtimeNames),
			RunE: func(cmd *cobra.Command, args []string) error {
				_, err := fmt.Fprint(cmd.OutOrStdout(), profiles.Template(profiles.Runtime(args[0])))
				return err
			},
			ValidArgsFunction: completeOneOf(runtimeNames),
		},
	)
	return cmd
}

func noSuchProfilesCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := fmt.Sprintf("`%s --help` lists what it does", cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		hint = "did you mean " + strings.Join(like, " or ") + "?"
	} else if _, err := profiles.Source(args[0]); err == nil {
		hint = fmt.Sprintf("`%s show %s` prints it", cmd.CommandPath(), args[0])
	}
	return usage(hint, "%s has no command %q", cmd.CommandPath(), args[0])
}

func runtimeNames() []string {
	var names []string
	for _, r := range profiles.Runtimes() {
		names = append(names, string(r))
	}
	return names
}

// oneOf is for commands that take one word of a list.
func oneOf(what string, words func() []string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch all := "they are: " + strings.Join(words(), ", "); {
		case len(args) == 0:
			return usage(all, "%s takes the name of a %s", cmd.CommandPath(), what)
		case len(args) > 1:
			return usage("ask for them one by one", "%s takes one name, and %q is a second", cmd.CommandPath(), args[1])
		default:
			return known(what, args[0], words(), all)
		}
	}
}

// known refuses a word that is not among those there are.
func known(what, word string, words []string, hint string) error {
	best, least := "", len(word)/3+2
	for _, w := range words {
		if w == word {
			return nil
		}
		if d := levenshtein.Distance(strings.ToLower(word), w, nil); d < least {
			best, least = w, d
		}
	}
	if best != "" {
		hint = "did you mean " + best + "?"
	}
	return usage(hint, "there is no %s %q", what, word)
}

func completeOneOf(words func() []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return words(), cobra.ShellCompDirectiveNoFileComp
	}
}

func listProfiles(cmd *cobra.Command) error {
	tw := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tRUNTIME\tSUMMARY")
	for _, name := range profiles.Shipped() {
		text, err := profiles.Source(name)
		if err != nil {
			return err
		}
		p, err := profiles.Parse(text, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", name, p.Runtime, profiles.Summary(text))
	}
	return tw.Flush()
}

func validateProfiles(cmd *cobra.Command, files []string) error {
	if len(files) == 0 {
		return usage("for example: "+cmd.CommandPath()+" mine.yaml", "%s takes the files to check, and none is given", cmd.CommandPath())
	}
	wrong, hint := 0, profileHint
	for _, file := range files {
		_, name, err := readProfile(cmd, file)
		if err == nil {
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", name); err != nil {
				return err
			}
			continue
		}
		wrong++
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		if _, shipped := profiles.Source(file); shipped == nil && errors.Is(err, os.ErrNotExist) {
			hint = file + " comes with berth and is fine; validate takes files"
		}
	}
	if wrong > 0 {
		return usage(hint, "mistakes in %d of %s", wrong, count(len(files), "file"))
	}
	return nil
}

// readProfile reads a file, or standard input for "-", and says what errors
// call it.
func readProfile(cmd *cobra.Command, file string) (p *profiles.Profile, name string, err error) {
	if file == "-" {
		p, err = profiles.Read(cmd.InOrStdin(), "stdin")
		return p, "stdin", err
	}
	p, err = profiles.ReadFile(file)
	return p, file, err
}

// loadProfile reads the profile that an argument names: "-" is standard input,
// what exists as a file or looks like one is a file, and any other name is that
// of a profile that comes with berth. What is wrong is the user's to mend.
func loadProfile(cmd *cobra.Command, arg string) (*profiles.Profile, error) {
	if arg != "-" && !isFile(arg) {
		hint := "`berth profiles list` shows those that come with berth; a file is named by its path or ends in .yaml"
		if err := known("profile", arg, profiles.Shipped(), hint); err != nil {
			return nil, err
		}
		text, err := profiles.Source(arg)
		if err != nil {
			return nil, err
		}
		return profiles.Parse(text, arg)
	}
	p, name, err := readProfile(cmd, arg)
	var found profiles.Mistakes
	switch {
	case err == nil:
		return p, nil
	case errors.As(err, &found) && len(found) > 1:
		return nil, usage(profileHint, "%d mistakes in %s:\n  %s", len(found), name, strings.ReplaceAll(found.Error(), "\n", "\n  "))
	case found != nil:
		return nil, usage(profileHint, "%w", err)
	}
	return nil, usage("give a file, - for standard input, or a name that `berth profiles list` shows", "%w", err)
}

func isFile(arg string) bool {
	if strings.Contains(arg, "/") || strings.HasSuffix(arg, ".yaml") || strings.HasSuffix(arg, ".yml") {
		return true
	}
	info, err := os.Stat(arg)
	return err == nil && !info.IsDir()
}
