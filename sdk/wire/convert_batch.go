package wire

import (
	"fmt"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// checkRows parses a flow batch and holds it against its header.
func checkRows(rows *sdk.Batch, flow *sdk.Flow, payload []byte, head *pb.Batch) error {
	if head.GetFormat() != "" {
		return fmt.Errorf("flow batch with format %s", shorten(head.GetFormat()))
	}
	if err := rows.Parse(flow, payload); err != nil {
		return err
	}
	if int64(rows.Rows()) != int64(head.GetCount()) {
		return fmt.Errorf("%d rows, its header says %d", rows.Rows(), head.GetCount())
	}
	if least, greatest := rows.TimeSpan(); least != head.GetMinTimeNs() || greatest != head.GetMaxTimeNs() {
		return fmt.Errorf("stamps from %d to %d, its header says %d to %d",
			least, greatest, head.GetMinTimeNs(), head.GetMaxTimeNs())
	}
	return nil
}

// checkMessages walks the lengths of an encoded batch and holds it against its
// header.
func checkMessages(body []byte, head *pb.Batch) error {
	if head.GetFormat() == "" {
		return fmt.Errorf("encoded batch without format")
	}
	if head.GetMinTimeNs() > head.GetMaxTimeNs() {
		return fmt.Errorf("stamps from %d to %d", head.GetMinTimeNs(), head.GetMaxTimeNs())
	}
	count, err := pbfs.CheckBody(body)
	if err != nil {
		return err
	}
	if int64(count) != int64(head.GetCount()) {
		return fmt.Errorf("%d messages, its header says %d", count, head.GetCount())
	}
	return nil
}

func batchToPB(b *Batch, payload *pb.Payload) *pb.Batch {
	return &pb.Batch{
		Sequence:  b.Sequence,
		Flow:      b.Flow,
		Count:     uint32(b.Count),
		MinTimeNs: b.MinTime,
		MaxTimeNs: b.MaxTime,
		Format:    b.Format,
		Payload:   payload,
	}
}

func bindingToPB(b sdk.Binding) *pb.Binding {
	out := &pb.Binding{ConfigId: []byte(b.ConfigID)}
	if b.RunID != "" {
		out.RunId = []byte(b.RunID)
	}
	return out
}

func bindingFromPB(b *pb.Binding) sdk.Binding {
	return sdk.Binding{ConfigID: string(b.GetConfigId()), RunID: string(b.GetRunId())}
}

func droppedFromPB(d *pb.Dropped) *Dropped {
	return &Dropped{sdk.Dropped{
		Flow:    sdk.FlowNumber(d.GetFlow()),
		Rows:    d.GetRows(),
		Reason:  cutText(d.GetReason(), maxFailureText),
		From:    d.GetFromNs(),
		To:      d.GetToNs(),
		Refused: d.GetRefused(),
	}}
}

func refusedToPB(refused []sdk.Refused) []*pb.RefusedRow {
	var out []*pb.RefusedRow
	for _, r := range refused {
		out = append(out, &pb.RefusedRow{
			Row:     uint32(r.Row),
			Channel: cutText(r.Channel, sdk.MaxNameBytes),
			Reason:  cutText(r.Reason, maxFailureText),
		})
	}
	return out
}

// refusedFromPB checks that the rows exist and are in order.
func refusedFromPB(refused []*pb.RefusedRow, rows int) ([]sdk.Refused, error) {
	if len(refused) == 0 {
		return nil, nil
	}
	if len(refused) > rows {
		return nil, fmt.Errorf("%d refused rows of %d", len(refused), rows)
	}
	out := make([]sdk.Refused, len(refused))
	next := int64(0)
	for i, r := range refused {
		if row := int64(r.GetRow()); row < next || row >= int64(rows) {
			return nil, fmt.Errorf("refused row %d of %d, out of order or out of range", row, rows)
		}
		next = int64(r.GetRow()) + 1
		out[i] = sdk.Refused{
			Row:     int(r.GetRow()),
			Channel: cutText(r.GetChannel(), sdk.MaxNameBytes),
			Reason:  cutText(r.GetReason(), maxFailureText),
		}
	}
	return out, nil
}
