variable "flight" {
  type        = string
  default     = "f9"
  description = "Name of the flight"
}

locals {
  columns = [for c in ["alt", "vel"] : upper(c)]
  folder  = "${data_dir}/${local.name}"
  name    = "flights-${var.flight}"
}

pipeline "replay" {
  asset          = "rocket"
  asset_tags     = ["test"]
  asset_metadata = { serial = 12, owner = "ops", flown = true }
  drain_timeout  = "1m30s"

  source "csv" "flight" {
    path      = "${path.module}/data/${var.flight}.csv"
    columns   = local.columns
    speed     = "max"
    types     = { alt = "double" }
    period    = "250ms"
    limit     = "1.5GiB"
    start     = "2026-05-01T12:00:00Z"
    gather    = "0s"
    idle_exit = "5s"
    time {
      column = "t"
      unit   = "s"
    }
    column "alt" {
      unit = "m"
    }
    plugin {
      sandbox = "off"
      env     = { TZ = "UTC" }
    }
  }

  encoder "ingestion_config" {
    client_key = "${pipeline.name}-v1"
  }

  transport "sift" "live" {
    uri           = "https://grpc-api.example.com"
    api_key       = secret::env("SECRET")
    flows         = ["flight", "rule/*"]
    required      = true
    channel_names = "plain"
    checkpoint {
      interval = "5s"
    }
    queues {
      ingestion = 10
    }
  }
  transport "parquet" "lake" {
    dir = local.folder
  }

  run {
    name     = "hotfire-${formatdate("YYYY-MM-DD", timestamp())}"
    tags     = ["qualification"]
    metadata = { attempt = 3 }
  }
  checkpoint {
    interval = "30s"
  }
  retry {
    multiplier = 2
  }
  queues {
    ingestion     = 5000
    on_backup_lag = "block"
  }
  rules {
    memory = "64MiB"
  }
  flow "imu" {
    strictly_increasing = true
    channel "accel_x" {
      type = "double"
      unit = "m/s2"
    }
    channel "state" {
      type = "enum"
      enum = { idle = 0, armed = 1 }
    }
    channel "flags" {
      type = "bit_field"
      element "valve" {
        index     = 0
        bit_count = 1
      }
    }
  }
}
