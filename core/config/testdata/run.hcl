pipeline "a" {
  run {
    id          = "5f3c"
    description = "x"
    tags        = ["a"]
  }

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }

}
pipeline "b" {
  run {
    id   = "5f3c"
    name = "x"
  }

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake2"
  }

}
pipeline "c" {
  run {
    client_key = "x"
    metadata   = { a = { b = 1 } }
  }

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake3"
  }

}
pipeline "d" {
  run {
    name = ""
  }

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake4"
  }

}
pipeline "e" {
  run {
    name = "x"
    tags = ["a", ""]
  }

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake5"
  }

}
