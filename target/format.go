// SPDX-License-Identifier: Apache-2.0

package target

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/outrigger-k8s/outrigger/table"
)

// Schema is the first line of a Target file: schema: outrigger.dev/target/v1alpha1.
const Schema = "outrigger.dev/target/v1alpha1"

// maxFile bounds a Target file, and a CA file, in bytes.
const maxFile = 256 << 10

// Defaults of a [Process] and of [SettingsFile].
const (
	DefaultPath    = "/inject"
	DefaultStartup = 10 * time.Second
	DefaultFile    = "config.yaml"
)

// A Target is the injector under test. Make one with [Load], [Parse] or [Reference]; it does not change after that.
type Target struct {
	// Schema is "outrigger.dev/target/v1alpha1".
	Schema string `yaml:"schema" json:"schema" jsonschema:"required,enum=outrigger.dev/target/v1alpha1"`
	// Name is what reports call the target: letters, digits, '-', '_' and '.'.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9_.-]*$"`
	// Profiles are the names of those it claims to speak; at least one.
	Profiles []string `yaml:"profiles" json:"profiles" jsonschema:"required,minItems=1"`
	// Version is a command that prints the target's own version, without placeholders. Default: the version is unknown.
	Version []string `yaml:"version" json:"version,omitempty"`
	// Process says how to start the target. Exactly one of Process and URL.
	Process *Process `yaml:"process" json:"process,omitempty"`
	// Settings say how the settings of a case become the target's configuration file. With Process only.
	Settings *SettingsFile `yaml:"settings" json:"settings,omitempty"`
	// URL says where the target runs already.
	URL *Running `yaml:"url" json:"url,omitempty"`

	file string // where it was read from; "" for values
}

// A Process says how to start an instance of the target.
type Process struct {
	// Command is the program (a path, or a name on PATH) and its arguments; each word is a template. See the package
	// comment for the placeholders.
	Command []string `yaml:"command" json:"command" jsonschema:"required,minItems=1"`
	// Path is the webhook's. Default: /inject.
	Path string `yaml:"path" json:"path,omitempty" jsonschema:"default=/inject,pattern=^/"`
	// Ready is the path that answers 2xx once the instance is ready, on the webhook's own address. Default: an instance
	// is ready when it takes TLS connections.
	Ready string `yaml:"ready" json:"ready,omitempty" jsonschema:"pattern=^/"`
	// Startup is how long it may take to get ready. Default: 10s.
	Startup Duration `yaml:"startup" json:"startup,omitempty"`
	// Env is added to the environment that outrigger has. Values are not templates.
	Env map[string]string `yaml:"env" json:"env,omitempty"`
}

// A SettingsFile says how the settings of a case become the target's configuration file.
type SettingsFile struct {
	// File is the file's name, without a folder. Default: config.yaml.
	File string `yaml:"file" json:"file,omitempty" jsonschema:"default=config.yaml,pattern=^[^/]+$"`
	// Template (text/template) makes the file's contents out of the settings. Default: the settings as they are, as
	// JSON, which every version of YAML reads alike.
	Template string `yaml:"template" json:"template,omitempty"`
}

// A Running is a target that somebody else has started, in settings that do not change.
type Running struct {
	// Address is the webhook's URL: https, with the path.
	Address string `yaml:"address" json:"address" jsonschema:"required,pattern=^https://"`
	// CAFile holds the certificates that the target's must lead to (PEM); relative to the Target file's folder.
	CAFile string `yaml:"caFile" json:"caFile,omitempty"`
	// CABundle is their text. Exactly one of the two.
	CABundle string `yaml:"caBundle" json:"caBundle,omitempty"`
	// Settings are those it runs in, in the words of the profile.
	Settings table.Overlay `yaml:"settings" json:"settings" jsonschema:"required"`
}

// A Duration is written as Go writes it: 500ms, 10s, 1m30s.
type Duration time.Duration

// UnmarshalYAML reads a duration. A number without a unit is refused: nobody means nanoseconds.
func (d *Duration) UnmarshalYAML(node ast.Node) error {
	text := node.GetToken().Value
	parsed, err := time.ParseDuration(text)
	if err != nil || parsed <= 0 {
		return &yaml.SyntaxError{
			Message: fmt.Sprintf("%q is no duration: write a positive number with its unit, such as 500ms, 10s or 1m", text),
			Token:   node.GetToken(),
		}
	}
	*d = Duration(parsed)
	return nil
}

// MarshalJSON writes the duration as UnmarshalYAML reads it.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// Load reads a Target file. Errors begin with the file and the line.
func Load(file string) (*Target, error) {
	raw, err := readBounded(file)
	if err != nil {
		return nil, fmt.Errorf("reading a Target: %w", err)
	}
	return Parse(file, raw)
}

// Parse reads the text of a Target file; file is its name, for errors and for what is relative to it.
func Parse(file string, raw []byte) (_ *Target, err error) {
	// goccy/go-yaml 1.19 panics on some documents that are none, such as "profiles: !x" at the end of one line and more
	// on the next (found by FuzzParse). A broken file must not end the program without the file's name.
	defer func() {
		if broken := recover(); broken != nil {
			err = &table.Error{File: file, What: fmt.Sprintf("it cannot be read as YAML: %v", broken)}
		}
	}()
	t := &Target{}
	if err := yaml.UnmarshalWithOptions(raw, t, yaml.Strict()); err != nil {
		line, what := 0, err.Error()
		var at yaml.Error
		if errors.As(err, &at) {
			what = at.GetMessage()
			if token := at.GetToken(); token != nil && token.Position != nil {
				line = token.Position.Line
			}
		}
		return nil, &table.Error{File: file, Line: line, What: what}
	}
	if line := table.SecondDocument(raw); line > 0 {
		return nil, &table.Error{File: file, Line: line, What: "a second document: only one is read"}
	}
	t.file = file
	if path, what := t.check(); what != "" {
		return nil, &table.Error{File: file, Line: lineOf(raw, path), What: what}
	}
	return t, nil
}

var slug = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// check fills in the defaults, and returns the YAML path of the first thing that is wrong, and what it is.
func (t *Target) check() (path, what string) {
	switch {
	case t.Schema != Schema:
		return "$.schema", fmt.Sprintf("schema is %q: this version of outrigger reads %q", t.Schema, Schema)
	case !slug.MatchString(t.Name):
		return "$.name", fmt.Sprintf("name %q: letters, digits, '-', '_' and '.' make a name", t.Name)
	case len(t.Profiles) == 0:
		return "$", "profiles are missing: name at least one that the target claims to speak"
	case t.Process == nil && t.URL == nil:
		return "$", "neither process nor url: say how to start the target, or where it runs"
	case t.Process != nil && t.URL != nil:
		return "$.url", "both process and url: the target is either started or runs already"
	case t.URL != nil && t.Settings != nil:
		return "$.settings", "settings go with process only: a target that runs already has those under url.settings"
	case len(t.Version) > 0 && t.Version[0] == "":
		return "$.version", "version names no program"
	}
	for i, profile := range t.Profiles {
		if !slug.MatchString(profile) || slices.Contains(t.Profiles[:i], profile) {
			return fmt.Sprintf("$.profiles[%d]", i), fmt.Sprintf("profile %q is not a name, or named twice", profile)
		}
	}
	if t.URL != nil {
		return t.URL.check()
	}
	if path, what := t.Process.check(); what != "" {
		return path, what
	}
	if t.Settings == nil {
		t.Settings = &SettingsFile{}
	}
	return t.Settings.check()
}

func (p *Process) check() (path, what string) {
	if p.Path == "" {
		p.Path = DefaultPath
	}
	if p.Startup == 0 {
		p.Startup = Duration(DefaultStartup)
	}
	switch {
	case len(p.Command) == 0 || p.Command[0] == "":
		return "$.process", "process.command is missing: the program to start, and its arguments"
	case !strings.HasPrefix(p.Path, "/"):
		return "$.process.path", fmt.Sprintf("path %q does not begin with a slash", p.Path)
	case p.Ready != "" && !strings.HasPrefix(p.Ready, "/"):
		return "$.process.ready", fmt.Sprintf("ready %q is not a path: it does not begin with a slash", p.Ready)
	}
	for _, path := range []struct{ at, path string }{{"$.process.path", p.Path}, {"$.process.ready", p.Ready}} {
		if u, err := url.Parse(path.path); err != nil || u.Host != "" || u.RawQuery != "" || u.Fragment != "" {
			return path.at, fmt.Sprintf("%q is more than a path, or has a bad escape", path.path)
		}
	}
	for i, word := range p.Command {
		if _, err := expand(word, placeholders{}); err != nil {
			return fmt.Sprintf("$.process.command[%d]", i), fmt.Sprintf("%q: %v; the placeholders are {{.Config}}, {{.Cert}}, "+
				"{{.Key}}, {{.Host}}, {{.Port}} and {{.Dir}}", word, err)
		}
	}
	for name := range p.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return "$.process.env", fmt.Sprintf("%q cannot be the name of an environment variable", name)
		}
	}
	return "", ""
}

func (s *SettingsFile) check() (path, what string) {
	if s.File == "" {
		s.File = DefaultFile
	}
	if s.File != filepath.Base(s.File) || s.File == "." || s.File == ".." {
		return "$.settings.file", fmt.Sprintf("file %q is not a plain file name", s.File)
	}
	if _, err := s.parse(); err != nil {
		return "$.settings.template", err.Error()
	}
	return "", ""
}

func (r *Running) check() (path, what string) {
	u, err := url.Parse(r.Address)
	switch {
	case err != nil:
		return "$.url.address", err.Error()
	case u.Scheme != "https" || u.Hostname() == "":
		return "$.url.address", fmt.Sprintf("address %q is not an https URL with a host", r.Address)
	case (r.CAFile == "") == (r.CABundle == ""):
		return "$.url", "exactly one of caFile and caBundle says by which certificates the target's is verified"
	case r.Settings == nil:
		return "$.url", "url.settings are missing: without them no case could be told to want the same"
	}
	return "", ""
}

// Speaks tells whether the target claims to speak the profile.
func (t *Target) Speaks(profile string) bool { return slices.Contains(t.Profiles, profile) }

// Fixed tells whether the target has settings that cannot be changed.
func (t *Target) Fixed() bool { return t.URL != nil }

// lineOf finds the line of a YAML path such as $.process.command[1]; the nearest parent's where it is absent, 0 where
// it cannot be told.
func lineOf(raw []byte, path string) int {
	for path != "" {
		if p, err := yaml.PathString(path); err == nil {
			if node, err := p.ReadNode(strings.NewReader(string(raw))); err == nil && node != nil {
				return firstLine(node)
			}
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

// firstLine is where node begins: for a mapping its first key, not the colon behind it.
func firstLine(node ast.Node) int {
	switch n := node.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 {
			return firstLine(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return firstLine(n.Key)
	}
	if t := node.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", file, maxFile)
	}
	return raw, nil
}
