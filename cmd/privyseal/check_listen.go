package main

import "privyseal/internal/monitor"

// checkListen checks that metrics and status are served, or could be. Signing goes on
// without them, unseen.
func (k *inspection) checkListen() {
	line := k.config.Line("listen")
	cure := "free the address, or change `listen` in the config"
	if k.running == nil {
		if k.config.Listen == "" {
			return
		}
		if err := checkPort(k.config.Listen); err != nil {
			k.add(bad, line, "listen", "nobody would see the metrics on "+k.config.Listen+": "+err.Error(), cure)
			return
		}
		k.add(good, line, "listen", k.config.Listen+" is free for the metrics", "")
		return
	}
	for _, l := range k.running.Listeners {
		switch {
		case l.Problem != "":
			k.add(bad, line, "listen", "the running signer does not serve its "+l.Name+": "+l.Problem, "free it; the signer tries again by itself")
		case l.Name == monitor.MetricsListener:
			k.add(good, line, "listen", "metrics on "+l.Addr, "")
		}
	}
}
