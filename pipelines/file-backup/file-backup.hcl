# Writes this machine's telemetry to backup files (PBFS) and needs no network.
#
#   pipelined run pipelines/file-backup
#   pipelined backup ls DIRECTORY
#
# Their messages carry placeholders for the destination's ids, so the names of the
# files end in .unbound.

variable "dir" {
  type        = string
  default     = ""
  description = "Directory of the files; empty: below the data directory"
}

pipeline "file_backup" {
  asset = "this-machine"

  source "host" "self" {}

  encoder "ingestion_config" {
    client_key = "this-machine-v1"
  }

  transport "file" "disk" {
    dir           = var.dir != "" ? var.dir : "${data_dir}/${pipeline.name}/files"
    max_file_size = "64MiB"
  }
}
