// SPDX-License-Identifier: Apache-2.0

package target

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/template"
)

// ErrFixedSettings says that a case wants settings that the target does not run in, and cannot be given: the case is
// not run, which is neither a pass nor a failure.
var ErrFixedSettings = errors.New("target has fixed settings")

// placeholders are what the words of a command may name.
type placeholders struct {
	Config, Cert, Key string // files
	Host              string
	Port              int
	Dir               string
}

// expand fills the placeholders into one word of a command.
func expand(word string, p placeholders) (string, error) {
	if !strings.Contains(word, "{{") {
		return word, nil
	}
	t, err := template.New("command").Parse(word)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	if err := t.Execute(&out, p); err != nil {
		return "", err
	}
	return out.String(), nil
}

// canonical is the one form of settings: JSON with sorted keys. Equal settings have equal forms. No settings and empty
// ones are the same.
func canonical(settings map[string]any) ([]byte, error) {
	if len(settings) == 0 {
		return []byte("{}"), nil
	}
	return marshal(settings, "")
}

// digest names canonical settings, for files and logs.
func digest(canonical []byte) string {
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:6])
}

func marshal(v any, indent string) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// functions are what the settings' template may call, beside text/template's own.
var functions = template.FuncMap{
	"json": func(v any) (string, error) {
		out, err := marshal(v, "")
		return string(out), err
	},
}

// parse reads the template; nil if there is none.
func (s *SettingsFile) parse() (*template.Template, error) {
	if s.Template == "" {
		return nil, nil
	}
	// A setting that a case does not have must not turn into the text "<no value>".
	return template.New("settings.template").Option("missingkey=error").Funcs(functions).Parse(s.Template)
}

// render makes the configuration file out of settings.
func (s *SettingsFile) render(settings map[string]any) ([]byte, error) {
	t, err := s.parse()
	if err != nil {
		return nil, err
	}
	if settings == nil {
		settings = map[string]any{}
	}
	var out bytes.Buffer
	if t == nil {
		text, err := marshal(settings, "  ")
		if err != nil {
			return nil, fmt.Errorf("writing the settings as JSON: %w", err)
		}
		return append(text, '\n'), nil
	}
	if err := t.Execute(&out, settings); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
