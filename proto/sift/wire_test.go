package sift_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	typev1 "github.com/pipelined/pipelined/proto/sift/common/type/v1"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	ingestionconfigsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	metadatav1 "github.com/pipelined/pipelined/proto/sift/metadata/v1"
	pingv1 "github.com/pipelined/pipelined/proto/sift/ping/v1"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
)

// TestNumbersAndPaths compares every message, enum and method with
// testdata/wire.txt. That file states facts of another party: when the test
// fails, the description is wrong, not the file.
func TestNumbersAndPaths(t *testing.T) {
	want, err := os.ReadFile("testdata/wire.txt")
	require.NoError(t, err)

	var blocks []string
	for _, file := range []protoreflect.FileDescriptor{
		assetsv1.File_sift_assets_v1_assets_proto,
		typev1.File_sift_common_type_v1_channel_proto,
		ingestv1.File_sift_ingest_v1_ingest_proto,
		ingestionconfigsv2.File_sift_ingestion_configs_v2_ingestion_configs_proto,
		metadatav1.File_sift_metadata_v1_metadata_proto,
		pingv1.File_sift_ping_v1_ping_proto,
		runsv2.File_sift_runs_v2_runs_proto,
	} {
		blocks = append(blocks, describe(file)...)
	}
	slices.Sort(blocks)
	assert.Equal(t, string(want), strings.Join(blocks, "\n\n")+"\n")
}

// describe renders the enums, messages and services of a file, one block each.
func describe(file protoreflect.FileDescriptor) []string {
	var blocks []string
	for i := range file.Enums().Len() {
		blocks = append(blocks, describeEnum(file.Enums().Get(i)))
	}
	for i := range file.Messages().Len() {
		blocks = append(blocks, describeMessage(file.Messages().Get(i)))
	}
	for i := range file.Services().Len() {
		blocks = append(blocks, describeService(file.Services().Get(i)))
	}
	return blocks
}

func describeEnum(enum protoreflect.EnumDescriptor) string {
	lines := []string{"enum " + string(enum.FullName())}
	for i := range enum.Values().Len() {
		value := enum.Values().Get(i)
		lines = append(lines, fmt.Sprintf("  %d %s", value.Number(), value.Name()))
	}
	return strings.Join(lines, "\n")
}

func describeMessage(message protoreflect.MessageDescriptor) string {
	fields := make([]protoreflect.FieldDescriptor, 0, message.Fields().Len())
	for i := range message.Fields().Len() {
		fields = append(fields, message.Fields().Get(i))
	}
	slices.SortFunc(fields, func(a, b protoreflect.FieldDescriptor) int {
		return int(a.Number() - b.Number())
	})
	lines := []string{"message " + string(message.FullName())}
	for _, field := range fields {
		lines = append(lines, fmt.Sprintf("  %d %s %s%s", field.Number(), field.Name(), label(field), typeName(field)))
	}
	return strings.Join(lines, "\n")
}

func label(field protoreflect.FieldDescriptor) string {
	switch oneof := field.ContainingOneof(); {
	case field.IsList():
		return "repeated "
	case field.HasOptionalKeyword():
		return "optional "
	case oneof != nil:
		return fmt.Sprintf("oneof(%s) ", oneof.Name())
	default:
		return ""
	}
}

func typeName(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.MessageKind:
		return string(field.Message().FullName())
	case protoreflect.EnumKind:
		return string(field.Enum().FullName())
	default:
		return field.Kind().String()
	}
}

// describeService also checks the convention that pairs a method with its
// messages, which the facts take for granted.
func describeService(service protoreflect.ServiceDescriptor) string {
	methods := make([]string, 0, service.Methods().Len())
	for i := range service.Methods().Len() {
		method := service.Methods().Get(i)
		line := fmt.Sprintf("  /%s/%s", service.FullName(), method.Name())
		if method.IsStreamingClient() {
			line += " client stream"
		}
		if method.IsStreamingServer() {
			line += " server stream"
		}
		if in := method.Input().Name(); in != method.Name()+"Request" {
			line += fmt.Sprintf(" takes %s", in)
		}
		if out := method.Output().Name(); out != method.Name()+"Response" {
			line += fmt.Sprintf(" returns %s", out)
		}
		methods = append(methods, line)
	}
	slices.Sort(methods)
	return strings.Join(append([]string{"service " + string(service.FullName())}, methods...), "\n")
}

// TestGeneratedPaths holds the constants that clients and servers are built
// with against the facts.
func TestGeneratedPaths(t *testing.T) {
	facts, err := os.ReadFile("testdata/wire.txt")
	require.NoError(t, err)
	for _, path := range []string{
		ingestv1.IngestService_IngestWithConfigDataStream_FullMethodName,
		pingv1.PingService_Ping_FullMethodName,
		ingestionconfigsv2.IngestionConfigService_CreateIngestionConfig_FullMethodName,
		ingestionconfigsv2.IngestionConfigService_ListIngestionConfigs_FullMethodName,
		ingestionconfigsv2.IngestionConfigService_CreateIngestionConfigFlows_FullMethodName,
		ingestionconfigsv2.IngestionConfigService_ListIngestionConfigFlows_FullMethodName,
		runsv2.RunService_GetRun_FullMethodName,
		runsv2.RunService_ListRuns_FullMethodName,
		runsv2.RunService_CreateRun_FullMethodName,
		runsv2.RunService_UpdateRun_FullMethodName,
		assetsv1.AssetService_GetAsset_FullMethodName,
		assetsv1.AssetService_UpdateAsset_FullMethodName,
	} {
		assert.Contains(t, string(facts), "  "+path)
	}
}

func TestRowBytes(t *testing.T) {
	row := &ingestv1.IngestWithConfigDataStreamRequest{
		IngestionConfigId: "c",
		Flow:              "f",
		Timestamp:         &timestamppb.Timestamp{Seconds: 1, Nanos: 2},
		ChannelValues: []*ingestv1.IngestWithConfigDataChannelValue{
			{Type: &ingestv1.IngestWithConfigDataChannelValue_Double{Double: 1.5}},
			{Type: &ingestv1.IngestWithConfigDataChannelValue_Empty{Empty: &emptypb.Empty{}}},
		},
		RunId: "r",
	}
	assertBytes(t, "0a01631201661a0408011002220911000000000000f83f22025a002a0172", row)
}

// TestValueBytes has a case for each data type, and some of those zero values
// that proto3 leaves out elsewhere but not in a oneof.
func TestValueBytes(t *testing.T) {
	type value = ingestv1.IngestWithConfigDataChannelValue
	for _, tc := range []struct {
		name  string
		value *value
		want  string
	}{
		{"string", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_String_{String_: "a"}}, "0a0161"},
		{"empty string", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_String_{}}, "0a00"},
		{"double", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_Double{Double: 1.5}}, "11000000000000f83f"},
		{"float", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_Float{Float: 1.5}}, "1d0000c03f"},
		{"true", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_Bool{Bool: true}}, "2001"},
		{"false", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_Bool{}}, "2000"},
		{"negative int32 takes 10 bytes", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_Int32{Int32: -1}}, "28ffffffffffffffffff01"},
		{"uint32", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_Uint32{Uint32: 300}}, "30ac02"},
		{"int64", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_Int64{Int64: -2}}, "38feffffffffffffffff01"},
		{"uint64", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_Uint64{Uint64: 1 << 63}}, "4080808080808080808001"},
		{"bit field", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_BitField{BitField: []byte{1, 2}}}, "4a020102"},
		{"enum", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_Enum{Enum: 7}}, "5007"},
		{"no value", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_Empty{Empty: &emptypb.Empty{}}}, "5a00"},
		{"bytes", &value{Type: &ingestv1.IngestWithConfigDataChannelValue_Bytes{Bytes: []byte{0xff}}}, "6201ff"},
	} {
		t.Run(tc.name, func(t *testing.T) { assertBytes(t, tc.want, tc.value) })
	}
}

func assertBytes(t *testing.T, want string, message proto.Message) {
	t.Helper()
	got, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	require.NoError(t, err)
	assert.Equal(t, want, hex.EncodeToString(got))

	back := message.ProtoReflect().New().Interface()
	require.NoError(t, proto.Unmarshal(got, back))
	assert.True(t, proto.Equal(message, back), "read back: %v", back)
}
