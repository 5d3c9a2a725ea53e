package replay

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"time"
)

// Group is what messages of one flow with the same ids have in common.
type Group struct {
	Flow, Config, Run string
	Unbound           bool // its ids are placeholders
	Messages          int64
	Bytes             int64 // of messages
	Timed             int64 // messages with a time
	From, To          time.Time
}

// Survey says what would be sent of a file.
type Survey struct {
	Before     int64 // messages that were delivered before
	Groups     []Group
	MoreGroups bool // there are others, which are only counted in Messages
	Messages   int64
	Unbound    int64 // of these, messages with placeholders
	Left       int64 // messages that the filter leaves out
	Damage     DamageList
}

// maxGroups bounds the groups that are told apart.
const maxGroups = 10_000

type groupKey struct{ flow, config, run string }

// Survey reads what Deliver would send of a file. Nothing is sent or noted.
func (r *Replayer) Survey(ctx context.Context, src *Source) (Survey, error) {
	f, err := r.open(src)
	if err != nil {
		return Survey{}, err
	}
	s := Survey{Before: f.record.Sent, Damage: f.outcome.Damage}
	groups := map[groupKey]*Group{}
	rd := newReader(src.File, src.Identity.Size, f.record.Position, r.settings.Resync, src.Borders)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return s, ctx.Err()
		}
		m, err := rd.next()
		if damage, ok := errors.AsType[*damageError](err); ok {
			s.Damage.add(damage.Damage)
			continue
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s, &SourceError{err}
		}
		r.count(&s, groups, m)
	}
	for _, g := range groups {
		s.Groups = append(s.Groups, *g)
	}
	slices.SortFunc(s.Groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Flow, b.Flow), cmp.Compare(a.Config, b.Config), cmp.Compare(a.Run, b.Run))
	})
	return s, nil
}

func (r *Replayer) count(s *Survey, groups map[groupKey]*Group, m *message) {
	if !r.settings.Filter.takes(&m.header) {
		s.Left++
		return
	}
	if reason := r.unsendable(m); reason != "" {
		s.Damage.add(Damage{Kind: Unsendable, From: m.at, To: m.at + int64(len(m.raw)), Messages: 1, Reason: reason})
		return
	}
	s.Messages++
	if m.unbound() {
		s.Unbound++
	}
	g := groups[groupKey{string(m.flow), string(m.config), string(m.run)}]
	if g == nil {
		if len(groups) >= maxGroups {
			s.MoreGroups = true
			return
		}
		g = &Group{Flow: string(m.flow), Config: string(m.config), Run: string(m.run), Unbound: m.unbound()}
		groups[groupKey{g.Flow, g.Config, g.Run}] = g
	}
	g.add(m)
}

func (g *Group) add(m *message) {
	g.Messages++
	g.Bytes += int64(len(m.raw))
	t, ok := m.time()
	if !ok {
		return
	}
	if g.Timed++; g.Timed == 1 || t.Before(g.From) {
		g.From = t
	}
	if g.Timed == 1 || t.After(g.To) {
		g.To = t
	}
}
