pipeline "a" {
  source "csv" "in" {
    time {
    }
  }
  transport "parquet" "out" {
  }
  flow "imu" {
  }
  flow "gps" {
    channel "lat" {
    }
  }
  run {
  }
}
