package ops

import "github.com/prometheus/client_golang/prometheus"

// Registry is for tests to look into.
func (o *Ops) Registry() *prometheus.Registry { return o.registry }
