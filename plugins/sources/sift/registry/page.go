package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/pipelined/pipelined/plugins/sources/sift/filter"
)

const (
	defaultPage = 50
	maxPage     = 1000
	// maxPageBytes keeps a page below the least limit that clients have, 4 MiB.
	maxPageBytes = 2 << 20
	bindingBytes = 8
)

// page is one page of a list as it was asked for.
type page struct {
	size    int
	after   []byte // key of the last record of the page before; nil for the first page
	binding []byte
}

// newPage reads the size and token of a request. The token must come from a
// request with the same parts.
func newPage(size uint32, token string, parts ...string) (page, error) {
	hash := sha256.New()
	for _, part := range parts {
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		hash.Write([]byte(part))
	}
	p := page{size: int(min(size, maxPage)), binding: hash.Sum(nil)[:bindingBytes]}
	if size == 0 {
		p.size = defaultPage
	}
	if token == "" {
		return p, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) <= bindingBytes || !bytes.Equal(raw[:bindingBytes], p.binding) {
		return p, refuse(codes.InvalidArgument, "page_token is not one of this list; use it with the filter and order_by that it was given for")
	}
	p.after = raw[bindingBytes:]
	return p, nil
}

// token names the place behind the record with this key.
func (p *page) token(key []byte) string {
	return base64.RawURLEncoding.EncodeToString(slices.Concat(p.binding, key))
}

// collector fills a page; it holds at most the page.
type collector[M proto.Message] struct {
	page  page
	items []M
	bytes int
	last  []byte
	more  bool
}

// add takes a record that passed the filter, and reports whether the page takes
// further ones. It always takes the first.
func (c *collector[M]) add(key []byte, record M) bool {
	n := proto.Size(record)
	if len(c.items) == c.page.size || len(c.items) > 0 && c.bytes+n > maxPageBytes {
		c.more = true
		return false
	}
	c.items = append(c.items, record)
	c.bytes += n
	c.last = append(c.last[:0], key...)
	return true
}

// next returns the token of the next page, empty if this is the last.
func (c *collector[M]) next() string {
	if !c.more {
		return ""
	}
	return c.page.token(c.last)
}

// cut returns a page of records that are in order, with the next page's token.
func cut[M proto.Message](p page, all []M, id func(M) string) ([]M, string, error) {
	if p.after != nil {
		at := slices.IndexFunc(all, func(m M) bool { return id(m) == string(p.after) })
		if at < 0 {
			return nil, "", refuse(codes.InvalidArgument, "page_token points at a record that is no longer in the list; begin again")
		}
		all = all[at+1:]
	}
	c := collector[M]{page: p}
	for _, m := range all {
		if !c.add([]byte(id(m)), m) {
			break
		}
	}
	return c.items, c.next(), nil
}

func parseFilter(text string, fields filter.Fields) (*filter.Filter, error) {
	f, err := filter.Parse(text, fields)
	if err != nil {
		return nil, refuse(codes.InvalidArgument, "filter: %v", err)
	}
	return f, nil
}
