pipeline "p" {
  drain_timeout = "0s"
  run_for       = "-1s"
  asset_tags    = ["a", ""]
  checkpoint {
    interval = "-1s"
    timeout  = "0s"
  }
  retry {
    initial    = "10s"
    max        = "5s"
    multiplier = 0.5
  }
  queues {
    ingestion     = 0
    backup        = -1
    control       = 0
  }
  rules {
    flush_interval = "0s"
    memory         = "10B"
    max_jump       = "-1s"
  }
  source "host" "in" {
    gather    = "-1s"
    idle_exit = "-5s"
  }
  transport "parquet" "out" {
    dir   = "/lake"
    flows = ["a", ""]
    checkpoint {
      timeout = "0s"
    }
    retry {
      initial = "6s"
    }
    queues {
      ingestion = 0
      backup    = 1
    }
  }
}
