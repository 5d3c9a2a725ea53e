package config

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/pipelined/pipelined/sdk"
)

// claim is something outside that a block wants for itself.
type claim struct {
	kind   claimKind
	plugin string // directories may be shared by different plugins
	what   string // path or address, as written
	path   string // of a directory, absolute
	owner  string // for messages
	at     hcl.Range
}

type claimKind uint8

const (
	directory claimKind = iota
	listener
)

func (k claimKind) summary() string {
	if k == listener {
		return "Address in use"
	}
	return "Shared directory"
}

func (k claimKind) advice() string {
	if k == listener {
		return "Give each its own port."
	}
	return "Give each its own directory, none inside another."
}

// claimsOf returns what a block writes to and listens at, by the grants of its
// schema. Only transports need directories of their own.
func claimsOf(p *Pipeline, b *PluginBlock) []claim {
	owner := fmt.Sprintf("%s %q of pipeline %q", b.Kind, b.Label, p.Name)
	var out []claim
	grants(b.Description.Schema, b.Body, func(grant sdk.Grant, text string) {
		c := claim{plugin: b.Plugin, what: text, owner: owner, at: b.Range}
		switch {
		case text == "":
		case grant == sdk.GrantTCPBind:
			c.kind = listener
			out = append(out, c)
		case grant == sdk.GrantPathWrite && b.Kind == sdk.KindTransport:
			out = append(out, c.directory())
		}
	})
	return out
}

// directory fills in the absolute path.
func (c claim) directory() claim {
	c.path = filepath.Clean(c.what)
	if path, err := filepath.Abs(c.what); err == nil {
		c.path = path
	}
	return c
}

// grants calls f for each text in a body whose attribute opens the sandbox.
func grants(s sdk.Schema, body sdk.Body, f func(sdk.Grant, string)) {
	for _, a := range s.Attributes {
		if a.Grant == sdk.GrantNone {
			continue
		}
		eachText(body.Attributes[a.Name], func(text string) { f(a.Grant, text) })
	}
	for _, known := range s.Blocks {
		for _, b := range body.Blocks {
			if b.Type == known.Type {
				grants(known.Body, b.Body, f)
			}
		}
	}
}

func eachText(v sdk.Value, f func(string)) {
	switch v.Kind {
	case sdk.KindString:
		f(v.String)
	case sdk.KindList:
		for _, item := range v.List {
			eachText(item, f)
		}
	case sdk.KindMap:
		for _, item := range v.Map {
			eachText(item, f)
		}
	}
}

// conflict says why two claims exclude each other, or nothing.
func (c claim) conflict(other claim) string {
	if c.kind != other.kind {
		return ""
	}
	if c.kind == listener {
		if !sameListener(c.what, other.what) {
			return ""
		}
		return fmt.Sprintf("%s listens at %s too; it", upperFirst(c.owner), quote(c.what))
	}
	if c.plugin != other.plugin {
		return ""
	}
	switch {
	case c.path == other.path:
		return fmt.Sprintf("%s writes to the directory %s too; it", upperFirst(c.owner), quote(c.what))
	case within(c.path, other.path) || within(other.path, c.path):
		return fmt.Sprintf("%s writes to %s, and one of the two directories is inside the other; it", upperFirst(c.owner), quote(c.what))
	}
	return ""
}

// within reports whether a clean path is below a directory.
func within(path, dir string) bool {
	return strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// sameListener reports whether two addresses cannot both be listened at.
func sameListener(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil {
		return a == b
	}
	if portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || anyHost(hostA) || anyHost(hostB)
}

func anyHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
