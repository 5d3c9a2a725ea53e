pipeline "p" {
  backup {
    dir            = ""
    max_file_size  = "10B"
    max_disk       = "5B"
    max_file_count = -1
    on_full        = "drop"
    sync           = "sometimes"
  }

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }

}
pipeline "q" {
  backup {
    dir            = ""
    max_file_size  = "10B"
    max_disk       = "5B"
    max_file_count = -1
    sync           = "0s"
  }

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake2"
  }

}
pipeline "r" {
  backup {
    max_size = 5
  }

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake3"
  }

}
pipeline "s" {
  backup {
    dir = "/backups"
  }

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake4"
  }

}
pipeline "t" {
  backup {
    dir = "/backups/inner"
  }

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake5"
  }

}
