package main

import (
	"embed"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Each file is NAME.schema.json: a new one needs no other line of code.
//
//go:embed schema
var schemas embed.FS

const schemaSuffix = ".schema.json"

func schemaNames() []string {
	files, err := schemas.ReadDir("schema")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), schemaSuffix))
	}
	return names
}

func newSchemaCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "schema [NAME]",
		Short: "Print the JSON Schema of an output or of the profile, or list them",
		Long: `Print the JSON Schema (draft 2020-12) that a command's -o json keeps to, or that
of a profile. Without a name, list the schemas.`,
		Example: `  berth schema
  berth schema inspect > inspect.schema.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			switch names := schemaNames(); len(args) {
			case 0:
				_, err := fmt.Fprintln(out, strings.Join(names, "\n"))
				return err
			case 1:
				text, err := schemas.ReadFile("schema/" + args[0] + schemaSuffix)
				if err != nil {
					return usage("the schemas are: "+strings.Join(names, ", "), "there is no schema %q", args[0])
				}
				_, err = out.Write(text)
				return err
			}
			return usage("ask for them one by one", "schema takes one name, and %q is a second", args[1])
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return schemaNames(), cobra.ShellCompDirectiveNoFileComp
		},
	}
}
