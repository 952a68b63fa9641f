package check

import (
	"privyseal/internal/home"
	"privyseal/internal/monitor"
	"privyseal/internal/provider"
)

// checkListen checks that metrics and status are served, or could be. Signing goes on
// without them, unseen.
func (k *inspection) checkListen() {
	line := k.Config.Line("listen")
	cure := "free the address, or change `listen` in the config"
	if k.running == nil {
		if k.Config.Listen == "" {
			return
		}
		if err := home.CheckPort(k.Config.Listen); err != nil {
			k.Add(provider.Bad, line, "listen", "cannot serve the metrics on "+k.Config.Listen+": "+err.Error(), cure)
			return
		}
		k.Add(provider.Good, line, "listen", k.Config.Listen+" is free for the metrics", "")
		return
	}
	for _, l := range k.running.Listeners {
		switch {
		case l.Problem != "":
			k.Add(provider.Bad, line, "listen", "the running signer does not serve its "+l.Name+": "+l.Problem, "free it; the signer retries by itself")
		case l.Name == monitor.MetricsListener:
			k.Add(provider.Good, line, "listen", "metrics on "+l.Addr, "")
		}
	}
}
