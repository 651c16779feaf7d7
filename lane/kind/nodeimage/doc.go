// SPDX-License-Identifier: Apache-2.0

// Package nodeimage gets the image that a kind cluster's nodes run: the one that is given, the one that kind publishes,
// or, where no registry is in reach, one built here from what the Go module proxy and Debian's mirrors serve.
package nodeimage
