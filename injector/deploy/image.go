// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/outrigger-k8s/outrigger/image"
)

// user is whom the image runs as: nobody that exists.
const user = "65532:65532"

// Image is the injector's image: one layer, with the program alone. program is the path of the injector, statically
// linked for the platform (OS/ARCH; "": linux/amd64); reference is NAME:TAG ("": DefaultImage). One program gives one
// digest.
func Image(program, reference, platform string) (image.Image, error) {
	if reference == "" {
		reference = DefaultImage
	}
	binary, err := image.Static("/injector", program, platform)
	if err != nil {
		return image.Image{}, fmt.Errorf("make the injector's image: %w", err)
	}
	layer, err := image.Files(binary)
	if err != nil {
		return image.Image{}, fmt.Errorf("make the injector's image: %w", err)
	}
	made, err := image.Build(image.Spec{
		Reference: reference,
		Platform:  platform,
		Layers:    []v1.Layer{layer},
		Config: image.Config{
			User:       user,
			Entrypoint: []string{"/injector"},
			Ports:      []string{"8443/tcp", "9090/tcp"},
			Labels:     map[string]string{"org.opencontainers.image.title": "outrigger reference injector"},
		},
	})
	if err != nil {
		return image.Image{}, fmt.Errorf("make the injector's image: %w", err)
	}
	return made, nil
}
