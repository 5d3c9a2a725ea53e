package sifttest

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// defaultPage is the page size of requests that do not say one.
const defaultPage = 50

// page cuts one page out of a list. The token of the next one holds only for a
// request with the same parameters.
func page[T any](items []T, size uint32, token string, greatest int, parameters ...string) ([]T, string, error) {
	length := int(size)
	if length == 0 {
		length = defaultPage
	}
	length = min(length, greatest)
	key := fmt.Sprintf("%d,%q", size, parameters)
	start := 0
	if token != "" {
		offset, rest, _ := strings.Cut(token, ",")
		if _, err := fmt.Sscanf(offset, "%d", &start); err != nil || rest != key || start < 0 || start > len(items) {
			return nil, "", status.Error(codes.InvalidArgument, "page_token does not belong to this request")
		}
	}
	end := min(start+length, len(items))
	next := ""
	if end < len(items) {
		next = fmt.Sprintf("%d,%s", end, key)
	}
	return items[start:end], next, nil
}
