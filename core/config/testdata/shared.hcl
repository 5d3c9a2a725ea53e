pipeline "one" {
  source "sift" "in" {}
  source "sift" "again" {
    listen = "0.0.0.0:50051"
  }
  source "sift" "other" {
    listen = "127.0.0.1:50052"
  }
  transport "parquet" "a" {
    dir = "/lake"
  }
  transport "parquet" "b" {
    dir = "/lake/inner"
  }
  transport "parquet" "c" {
    dir = "/lake-beside"
  }
  encoder "ingestion_config" {}
  transport "file" "other_kind" {
    dir = "/lake"
  }
}
pipeline "two" {
  source "sift" "in" {
    listen = "127.0.0.1:50052"
  }
  source "sift" "any_port" {
    listen = "127.0.0.1:0"
  }
  source "sift" "any_port_2" {
    listen = "127.0.0.1:0"
  }
  transport "parquet" "a" {
    dir = "/x/../lake/"
  }
}
