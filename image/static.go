// SPDX-License-Identifier: Apache-2.0

package image

import (
	"debug/elf"
	"fmt"
)

// machines are the architectures of Go's words in ELF's.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// Static is a program for an image that has nothing else: source, at path, executable by all. It must be a statically
// linked ELF file for the platform (OS/ARCH; "": [DefaultPlatform]); a program that asks for an interpreter would fail
// in the container with nothing but "no such file or directory".
func Static(path, source, platform string) (File, error) {
	wanted, err := parsePlatform(platform)
	if err != nil {
		return File{}, fmt.Errorf("take %s into an image: %w", source, err)
	}
	file, err := elf.Open(source)
	if err != nil {
		return File{}, fmt.Errorf("take %s into an image: it must be an ELF program: %w", source, err)
	}
	defer file.Close()
	if file.Machine != machines[wanted.Architecture] {
		return File{}, fmt.Errorf("take %s into an image for %s: it is a program for %s", source, wanted, file.Machine)
	}
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			return File{}, fmt.Errorf("take %s into an image: it is linked dynamically, and nothing in the image could load it; "+
				"build it with CGO_ENABLED=0", source)
		}
	}
	return File{Path: path, Mode: 0o755, Source: source}, nil
}
