package registry

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// comparers names the fields that a list can be ordered by.
type comparers[M any] map[string]func(a, b M) int

const maxOrder = 1024 // bytes

// sortBy orders records by a comma list of fields, each alone or followed by
// asc or desc. Records that are equal in all of them are ordered by id, in the
// direction of the last field.
func sortBy[M any](all []M, orderBy string, fields comparers[M], id func(M) string) error {
	if strings.TrimSpace(orderBy) == "" {
		orderBy = "created_date desc"
	}
	if len(orderBy) > maxOrder {
		return refuse(codes.InvalidArgument, "order_by has %d bytes, the limit is %d", len(orderBy), maxOrder)
	}
	var by []func(a, b M) int
	add := func(compare func(a, b M) int, descending bool) {
		if descending {
			by = append(by, func(a, b M) int { return compare(b, a) })
		} else {
			by = append(by, compare)
		}
	}
	descending := false
	for term := range strings.SplitSeq(orderBy, ",") {
		words := strings.Fields(term)
		ok := len(words) == 1 || len(words) == 2 && (words[1] == "asc" || words[1] == "desc")
		if !ok || fields[words[0]] == nil {
			return refuse(codes.InvalidArgument, "order_by: %s is not a field with an optional asc or desc; the fields are %s",
				quote(strings.TrimSpace(term)), strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		descending = len(words) == 2 && words[1] == "desc"
		add(fields[words[0]], descending)
	}
	add(func(a, b M) int { return cmp.Compare(id(a), id(b)) }, descending)
	slices.SortFunc(all, func(a, b M) int {
		for _, compare := range by {
			if c := compare(a, b); c != 0 {
				return c
			}
		}
		return 0
	})
	return nil
}

// by compares a field of records.
func by[M any, V cmp.Ordered](field func(M) V) func(a, b M) int {
	return func(a, b M) int { return cmp.Compare(field(a), field(b)) }
}

// byTime compares a time of records; one that is not set comes first.
func byTime[M any](field func(M) *timestamppb.Timestamp) func(a, b M) int {
	return func(a, b M) int {
		x, y := field(a), field(b)
		switch {
		case x == nil && y == nil:
			return 0
		case x == nil:
			return -1
		case y == nil:
			return 1
		}
		return x.AsTime().Compare(y.AsTime())
	}
}
