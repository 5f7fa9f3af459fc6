package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageError is a mistake of the user's: exit status 2, and a hint at what to
// do instead.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(hint, format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...), hint}
}

// statusError ends the program with a status of its own.
type statusError struct {
	status int
	err    error // nil: all has been said
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// noArgs is for commands that take flags only.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := fmt.Sprintf("`%s --help` shows its flags", cmd.CommandPath())
	if f := cmd.Flags().Lookup("extended"); f != nil && f.Changed {
		hint = "the columns follow an equals sign: --extended=" + args[0]
	}
	return usage(hint, "%s takes no argument, and %q is one", cmd.CommandPath(), args[0])
}

// noSuchCommand is the root's: what stands there was meant as a command.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "`berth --help` lists the commands"
	cmd.SuggestionsMinimumDistance = 2
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		hint = "did you mean " + strings.Join(like, " or ") + "?"
	}
	return usage(hint, "there is no command %q", args[0])
}

// choice is a flag that takes one of a few words.
type choice struct {
	value string
	of    []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.of, "|") }

func (c *choice) Set(word string) error {
	for _, w := range c.of {
		if w == word {
			c.value = word
			return nil
		}
	}
	return fmt.Errorf("it is one of %s", strings.Join(c.of, ", "))
}

func (c *choice) complete(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return c.of, cobra.ShellCompDirectiveNoFileComp
}

// optional is a flag whose value may be left out. It calls itself a bool to pflag,
// which then knows that the flag may stand alone; [alone] is its value then.
type optional struct {
	value string
	names string // what a value names, for an error
}

const alone = "true"

func (o *optional) String() string { return o.value }
func (o *optional) Type() string   { return "bool" }

func (o *optional) Set(text string) error {
	if text == "" {
		return errors.New("it names no " + o.names)
	}
	o.value = text
	return nil
}

// bind adds the flag to a command.
func (o *optional) bind(flags *pflag.FlagSet, name, short, about string) {
	flags.VarP(o, name, short, about)
	flags.Lookup(name).NoOptDefVal = alone
}

// atMostOne refuses flags that ask for different things at once.
func atMostOne(cmd *cobra.Command, names ...string) error {
	first := ""
	for _, name := range names {
		switch {
		case !cmd.Flags().Changed(name):
		case first == "":
			first = name
		default:
			return usage("give one of them", "--%s and --%s ask for different things", first, name)
		}
	}
	return nil
}
