package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/knadh/koanf/parsers/json"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// envPrefix begins the environment variables that are settings: PERDURE_MAX_RUNNING is --max-running.
const envPrefix = "PERDURE_"

// configure sets the flags that were not given from the environment, else from the file at path.
func configure(flags *pflag.FlagSet, path string, environ []string) error {
	if path != "" {
		values, err := readSettings(path)
		if err != nil {
			return usage("--config %s: %w", path, err)
		}
		if err := setFlags(flags, values, func(key string) string { return path + ": " + key }, true); err != nil {
			return err
		}
	}
	values := koanf.New(".")
	if err := values.Load(env.Provider(".", env.Opt{Prefix: envPrefix, EnvironFunc: func() []string { return environ },
		TransformFunc: func(k, v string) (string, any) { return settingName(strings.TrimPrefix(k, envPrefix)), v }}), nil); err != nil {
		return err
	}
	return setFlags(flags, values, func(key string) string {
		return "environment: " + envPrefix + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
	}, false)
}

func readSettings(path string) (*koanf.Koanf, error) {
	values := koanf.New(".")
	var parser koanf.Parser = yaml.Parser()
	if filepath.Ext(path) == ".json" {
		parser = json.Parser()
	}
	return values, values.Load(settingsFile(path), parser)
}

// settingsFile is the path of a file of settings.
type settingsFile string

// ReadBytes implements koanf.Provider.
func (f settingsFile) ReadBytes() ([]byte, error) { return readFile(string(f)) }

// Read implements koanf.Provider; with a parser, nobody calls it.
func (f settingsFile) Read() (map[string]any, error) { return nil, errors.ErrUnsupported }

// maxFile bounds what is read as a whole, in bytes: more than any server takes as an input.
const maxFile = 64 << 20

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

// readAll reads to the end, unless that is too far away.
func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("more than %s", bytesText(maxFile))
	}
	return data, err
}

// settingName is the flag of a setting: both max_running and MAX_RUNNING are max-running.
func settingName(key string) string { return strings.ToLower(strings.ReplaceAll(key, "_", "-")) }

// setFlags sets flags that were not given on the command line. Settings that are no flags are an error if
// strict is set. where names a setting in errors.
func setFlags(flags *pflag.FlagSet, values *koanf.Koanf, where func(key string) string, strict bool) error {
	for key, value := range values.All() {
		flag := flags.Lookup(settingName(key))
		switch {
		case flag == nil || flag.Name == "config" || flag.Name == "help":
			if strict {
				return usage("%s: there is no such setting", where(key))
			}
		case !flag.Changed:
			if err := flag.Value.Set(fmt.Sprint(value)); err != nil {
				return usage("%s: %w", where(key), err)
			}
		}
	}
	return nil
}
