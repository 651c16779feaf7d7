// SPDX-License-Identifier: Apache-2.0

// Probe is what the pods of this package's test run: "serve" answers every request with the host's name; "ask URL…"
// succeeds once every URL has been answered.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	switch os.Args[1] {
	case "serve":
		log.Fatal(http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			name, _ := os.Hostname()
			fmt.Fprint(w, name)
		})))
	case "ask":
		client := &http.Client{Timeout: 5 * time.Second}
		for _, url := range os.Args[2:] {
			response, err := client.Get(url)
			if err != nil {
				log.Fatal(err) // the pod's restart policy asks again
			}
			body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
			response.Body.Close()
			fmt.Printf("%s: %s\n", url, body)
		}
	}
}
