package registry

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	metadatav1 "github.com/pipelined/pipelined/proto/sift/metadata/v1"
	"github.com/pipelined/pipelined/sdk"
)

// clip cuts text to at most n bytes of whole characters.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

// checkName refuses a name that is blank or too long.
func checkName(what, name string) error {
	if strings.TrimSpace(name) == "" {
		return refuse(codes.InvalidArgument, "%s is blank", what)
	}
	return checkLength(what, name)
}

func checkLength(what, name string) error {
	if len(name) > sdk.MaxNameBytes {
		return refuse(codes.InvalidArgument, "%s has %d bytes, the limit is %d", what, len(name), sdk.MaxNameBytes)
	}
	return nil
}

func checkTags(tags []string) error {
	for _, tag := range tags {
		if err := checkName("a tag", tag); err != nil {
			return err
		}
	}
	return nil
}

// checkMetadata refuses values without a name or of another type than their key.
func checkMetadata(values []*metadatav1.MetadataValue) error {
	for _, v := range values {
		name := v.GetKey().GetName()
		if err := checkName("a metadata key", name); err != nil {
			return err
		}
		var want metadatav1.MetadataKeyType
		switch v.GetValue().(type) {
		case *metadatav1.MetadataValue_StringValue:
			want = metadatav1.MetadataKeyType_METADATA_KEY_TYPE_STRING
		case *metadatav1.MetadataValue_NumberValue:
			want = metadatav1.MetadataKeyType_METADATA_KEY_TYPE_NUMBER
		case *metadatav1.MetadataValue_BooleanValue:
			want = metadatav1.MetadataKeyType_METADATA_KEY_TYPE_BOOLEAN
		case *metadatav1.MetadataValue_RelationValue:
			want = metadatav1.MetadataKeyType_METADATA_KEY_TYPE_RELATION
		default:
			return refuse(codes.InvalidArgument, "metadata %s has no value", quote(name))
		}
		if got := v.GetKey().GetType(); got != want {
			return refuse(codes.InvalidArgument, "metadata %s has type %s and a value of %s", quote(name), got, want)
		}
	}
	return nil
}

// checkTime refuses a time that is not one; nil is none.
func checkTime(what string, t *timestamppb.Timestamp) error {
	if t == nil {
		return nil
	}
	if err := t.CheckValid(); err != nil {
		return refuse(codes.InvalidArgument, "%s: %v", what, err)
	}
	return nil
}

func errNoMask(paths string) error {
	return refuse(codes.InvalidArgument, "update_mask names no field; it takes %s", paths)
}

func errMaskPath(path, paths string) error {
	return refuse(codes.InvalidArgument, "update_mask names %s, which cannot be changed; it takes %s", quote(path), paths)
}
