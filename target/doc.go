// SPDX-License-Identifier: Apache-2.0

// Package target describes the injector under test and starts it.
//
// A [Target] is a small YAML file (or, for the reference injector, a value: [Reference]). It says what the injector is
// called, which profiles it claims to speak, and one of two things:
//
//   - process: how to start it. A table may ask for 75 different settings; a [Fleet] runs an instance of the target for
//     each of them, side by side, started when the first case wants it.
//   - url: where it runs already, and in which settings. Cases that want other settings cannot be run
//     ([ErrFixedSettings]); they are not passed.
//
// A target of the first kind, in full:
//
//	schema: outrigger.dev/target/v1alpha1
//	name: my-injector
//	profiles: [istio-classic]
//	version: [my-injector, version]       # prints the target's own version; optional
//	process:
//	  command: [my-injector, --config, "{{.Config}}", --cert, "{{.Cert}}", --key, "{{.Key}}", --port, "{{.Port}}"]
//	  path: /inject                       # of the webhook
//	  ready: /readyz                      # answers 2xx over HTTPS once the target is ready; default: it takes connections
//	  startup: 10s                        # how long that may take
//	  env: {LOG_LEVEL: info}              # beside the environment that outrigger has
//	settings:
//	  file: config.yaml                   # {{.Config}}, in a folder of the instance's own, {{.Dir}}
//	  template: |                         # of the settings that a case wants; default: the settings themselves
//	    policy: {{json .policy}}
//
// The words of a command are templates (text/template): {{.Config}} is the file of the settings, {{.Cert}} and {{.Key}}
// are the files of the certificate to serve with and its key (PEM), {{.Host}} and {{.Port}} are where to listen,
// {{.Dir}} is the instance's folder, which is its working directory too. The settings' template sees the settings as a
// case wants them, in the words of the profile; the function json writes a value as JSON, which is YAML as well.
//
// A target of the second kind:
//
//	schema: outrigger.dev/target/v1alpha1
//	name: my-injector
//	profiles: [istio-classic]
//	url:
//	  address: https://127.0.0.1:8443/inject
//	  caFile: ca.pem                      # or caBundle, the PEM text itself; relative to the target's file
//	  settings: {…}                       # those it runs in, in the words of the profile
//
// The settings of a running target are stated in full, as a case has them: `outrigger explain CASE --settings` prints them,
// for a case that wants what your injector has. Cases that want others are not run.
package target
