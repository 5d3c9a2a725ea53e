# Made-up telemetry, 1,000 rows a second, to a server that may go away: everything is
# written to the disk as well, and what the server missed is delivered when it is
# back. Try it on one machine, in two terminals:
#
#   pipelined run --data-dir /tmp/receiver pipelines/receiver
#   pipelined run --data-dir /tmp/sender pipelines/backup
#
# Stop the first one with Ctrl-C: the second one goes on, and says how much is pending.
# Start the first one again: the rest arrives. The second one may be stopped, or
# killed, and started again, too; it goes on where it was, whether the server is
# there or not. In the end every row is in the receiver's Parquet files; some may be
# there twice, where an end came between a row's arrival and its confirmation.

variable "uri" {
  type        = string
  default     = "http://127.0.0.1:50051"
  description = "Server; https for TLS"
}

variable "rows" {
  type        = number
  default     = 0
  description = "Ends after so many rows; 0: never"
}

pipeline "stand" {
  asset = "demo-stand"

  source "generator" "demo" {
    flow = "stand"
    rate = 1000
    rows = var.rows

    channel "row" {
      type = "int64"
      wave = "counter"
    }
    channel "pressure" {
      min  = 0
      max  = 40
      unit = "bar"
    }
  }

  encoder "ingestion_config" {
    client_key = "demo-stand-v1"
  }

  transport "sift" "live" {
    uri = var.uri
    # api_key = secret::env("SIFT_API_KEY")
  }

  backup {
    dir      = "${data_dir}/${pipeline.name}/backups"
    max_disk = "2GiB" # then the generator waits: on_full = "block"
  }

  # Often, so that there is something to see; the default is a minute.
  checkpoint {
    interval = "5s"
  }
}
