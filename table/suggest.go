// SPDX-License-Identifier: Apache-2.0

package table

import (
	"fmt"
	"slices"
	"strings"
)

// didYouMean is `: did you mean "X"?` with the nearest of known, or `: known are …` where none is near.
func didYouMean(word string, known []string) string {
	if len(known) == 0 {
		return ""
	}
	near := slices.MinFunc(known, func(a, b string) int { return distance(word, a) - distance(word, b) })
	if distance(word, near) <= max(2, len(word)/3) {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return ": known are " + strings.Join(known, ", ")
}

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

func sortedWords[V any](w map[Word]V) []Word {
	words := make([]Word, 0, len(w))
	for k := range w {
		words = append(words, k)
	}
	slices.Sort(words)
	return words
}

// String is the condition in words: `policy=disabled, annotation=(true|yes)`.
func (w When) String() string {
	var parts []string
	for _, d := range sortedWords(w) {
		values := make([]string, len(w[d]))
		for i, v := range w[d] {
			values[i] = string(v)
		}
		if len(values) == 1 {
			parts = append(parts, string(d)+"="+values[0])
		} else {
			parts = append(parts, string(d)+"=("+strings.Join(values, "|")+")")
		}
	}
	return strings.Join(parts, ", ")
}
