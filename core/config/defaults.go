package config

import (
	"time"

	"github.com/pipelined/pipelined/sdk"
)

// Every default of the host's own settings stands here and nowhere else.

// DefaultDrainTimeout is the time that a pipeline has for stopping.
const DefaultDrainTimeout = 20 * time.Second

func defaultCheckpoint() Checkpoint {
	return Checkpoint{Interval: 60 * time.Second, Timeout: 10 * time.Second}
}

func defaultRetry() Retry {
	return Retry{Initial: 50 * time.Millisecond, Max: 5 * time.Second, Multiplier: 5}
}

func defaultQueues() Queues {
	return Queues{Ingestion: 102_400, Backup: 102_400, Control: 1_024, OnBackupLag: LagStream}
}

func defaultHostSettings() HostSettings {
	return HostSettings{Sandbox: SandboxOn}
}

func defaultBackup() Backup {
	return Backup{MaxFileSize: 500 << 20, OnFull: "block", Sync: "1s"}
}

func defaultRuleLimits() RuleLimits {
	return RuleLimits{FlushInterval: 20 * time.Millisecond, Memory: 256 << 20, MaxJump: 10 * time.Second}
}

func defaultRule() Rule {
	return Rule{Idle: 30 * time.Second, Progress: "flow", Late: "count"}
}

func defaultGather() time.Duration { return sdk.DefaultGather }
