pipeline "engine_stand" {
  asset = "engine-stand-3"

  source "csv" "stand" {
    path = "${path.module}/data/hotfire.csv"
    flow = "engine"
    time {
      column = "t"
      unit   = "s"
    }
    speed = 1.0
  }

  encoder "ingestion_config" {
    client_key = "engine-stand-3-v1"
  }

  transport "sift" "live" {
    uri     = "https://grpc-api.example.com"
    api_key = secret::env("SECRET")
    plugin {
      sandbox = "off"
    }
  }

  backup {
    dir            = "${data_dir}/${pipeline.name}/backups"
    max_file_size  = "500MiB"
    max_file_count = 100
    max_disk       = "20GiB"
    min_free       = "1GiB"
    on_full        = "block"
    retain         = false
    sync           = "1s"
  }

  checkpoint {
    interval = "60s"
    timeout  = "10s"
  }
  retry {
    initial    = "50ms"
    max        = "5s"
    multiplier = 5
  }
  queues {
    ingestion     = 102400
    backup        = 102400
    control       = 1024
    on_backup_lag = "stream"
  }
  drain_timeout = "20s"

  rule "overheat" {
    channels = {
      temp  = "engine.chamber_temp"
      valve = { flow = "engine", channel = "main_valve", default = false }
    }
    when     = "temp > 950.0 && valve"
    hold     = "500ms"
    lateness = "1s"
    max_wait = "5s"
    idle     = "30s"
    labels   = { severity = "critical" }
  }
}

pipeline "receiver" {
  source "sift" "in" {
    listen = "127.0.0.1:50051"
    until  = pipeline.engine_stand
  }
  transport "parquet" "lake" {
    dir = "${data_dir}/parquet"
  }
  run {
    name       = "hotfire-12"
    client_key = "hotfire-12"
    tags       = ["qualification"]
  }
  rules {
    flush_interval = "20ms"
    memory         = "256MiB"
    max_jump       = "10s"
  }
  flow "imu" {
    channel "accel_x" {
      type = "double"
      unit = "m/s2"
    }
  }
  rule "stuck" {
    channels      = { p = { flow = "imu", channel = "accel_x", lateness = "200ms", optional = true } }
    when          = "max(p, '5s') - min(p, '5s') < 0.001"
    clear_when    = "max(p, '5s') - min(p, '5s') > 0.01"
    late          = "revise"
    revise_window = "10m"
    warmup        = "24h"
    evaluator "zscore" {
      threshold = 2.5
    }
  }
  rule "silent" {
    absent {
      channel = "imu.accel_x"
      for     = "2s"
    }
  }
  rule "drogue" {
    channels = { v = "flight.velocity", deployed = "flight.drogue" }
    sequence {
      first  = "v < 0.0"
      then   = "deployed"
      within = "30s"
    }
  }
}
