// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/outrigger-k8s/outrigger/injector/settings"
)

// configMaps is what /validate is made to be asked about.
var configMaps = subject{
	kind:       kind{Version: "v1", Kind: "ConfigMap"},
	resource:   resource{Version: "v1", Resource: "configmaps"},
	operations: []string{"CREATE", "UPDATE"},
}

// configMap is what /validate reads of a ConfigMap.
type configMap struct {
	Data       map[string]string          `json:"data"`
	BinaryData map[string]json.RawMessage `json:"binaryData"`
}

func (c *configMap) has(key string) bool {
	_, present := c.Data[key]
	return present
}

// validate answers a review of a ConfigMap: one that holds a broken configuration is denied, so that it never reaches
// an injector; one that holds none, and never did, is none of its business.
func (w *Webhook) validate(_ context.Context, body []byte) (*answer, *refusal) {
	r, warning, refused := decode[configMap](body, configMaps)
	if refused != nil {
		return nil, refused
	}
	if warning != "" {
		return w.unseen(r.reply(true), warning), nil
	}
	name := fmt.Sprintf("%s of ConfigMap %s/%s", w.configMapKey, r.Request.Namespace, r.Request.Name)
	var s *settings.Settings
	var err error
	if text, present := r.Request.Object.Data[w.configMapKey]; present {
		s, err = settings.Parse(name, []byte(text))
	} else if _, binary := r.Request.Object.BinaryData[w.configMapKey]; binary {
		err = fmt.Errorf("read configuration %s: it is in binaryData, which the injector does not read: put it into data", name)
	} else if old := r.Request.OldObject; old != nil && old.has(w.configMapKey) {
		err = fmt.Errorf("read configuration %s: the key is gone: without it an injector that starts has no configuration", name)
	} else {
		return r.reply(true), nil
	}
	if err != nil {
		w.metrics.errors.WithLabelValues(badConfigMap).Inc()
		w.log.Warn("refused a ConfigMap", "uid", r.Request.UID, "error", err)
		a := r.reply(false)
		a.Response.Status = &denial{Message: err.Error(), Reason: "Invalid", Code: http.StatusUnprocessableEntity}
		return a, nil
	}
	a := r.reply(true)
	for _, odd := range s.Warnings {
		a.Response.Warnings = append(a.Response.Warnings, odd.Error())
	}
	return a, nil
}
