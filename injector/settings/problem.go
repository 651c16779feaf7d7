// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"fmt"
	"strings"
)

// Problem is something wrong, or odd, at one place of a configuration.
type Problem struct {
	// Line counts from 1; 0 where it is unknown.
	Line int
	// Path is the field, as in template.containers[0].image; may be empty.
	Path string
	// Text is what is wrong with it.
	Text string
}

// Error returns "line L: path: text", without what is unknown.
func (p Problem) Error() string {
	text := p.Text
	if p.Path != "" {
		text = p.Path + ": " + text
	}
	if p.Line > 0 {
		text = fmt.Sprintf("line %d: %s", p.Line, text)
	}
	return text
}

// Error is a configuration that cannot be used.
type Error struct {
	// Name is the file, or what else the configuration came from.
	Name string
	// Problems are never none, in the order in which they were found.
	Problems []Problem
}

// Error returns all problems in one line.
func (e *Error) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.Error()
	}
	return fmt.Sprintf("read configuration %s: %s", e.Name, strings.Join(texts, "; "))
}
