package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/core/config"
)

func newFmt(g *globals) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "fmt PATH…",
		Short: "Rewrite pipeline files in the standard layout",
		Long: "Fmt rewrites *.hcl files in the standard layout and prints the names of those that it\n" +
			"changed. With --check it changes nothing and fails if a file is not in that layout.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := hclFiles(args)
			if err != nil {
				return err
			}
			unformatted, broken := 0, 0
			for _, file := range files {
				changed, problems, err := formatFile(file, !check)
				if err != nil {
					return err
				}
				if err := g.printDiagnostics(cmd.ErrOrStderr(), problems); err != nil {
					return err
				}
				if problems.HasErrors() {
					broken++
				}
				if changed {
					unformatted++
					fmt.Fprintln(cmd.OutOrStdout(), file)
				}
			}
			switch {
			case broken > 0:
				return &exitError{code: exitConfig}
			case check && unformatted > 0:
				return &exitError{exitFailure, fmt.Errorf("%s not in the standard layout", plural(unformatted, "file"))}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "change nothing, fail if something would change")
	return cmd
}

// hclFiles returns the files among paths and the *.hcl files of the directories.
func hclFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		found, err := filepath.Glob(filepath.Join(path, "*.hcl"))
		if err != nil {
			return nil, err
		}
		slices.Sort(found)
		files = append(files, found...)
	}
	return files, nil
}

// formatFile reports whether the file is not in the standard layout, and writes it
// if it shall.
func formatFile(path string, write bool) (changed bool, problems config.Diagnostics, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return false, nil, err
	}
	formatted, problems := config.Format(path, text)
	if problems.HasErrors() || bytes.Equal(text, formatted) {
		return false, problems, nil
	}
	if !write {
		return true, problems, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return false, problems, err
	}
	return true, problems, replaceFile(path, formatted, info.Mode().Perm())
}

// replaceFile replaces a file's content at once, so that a crash leaves the old or
// the new one.
func replaceFile(path string, content []byte, mode os.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".pipelined-fmt-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // fails once it has its final name
	_, err = temp.Write(content)
	if err == nil {
		err = temp.Chmod(mode)
	}
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
