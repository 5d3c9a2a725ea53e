pipeline "one" {
  source "sift" "in" {
    until = pipeline.two
  }
  transport "parquet" "out" {
    dir = "/one"
  }
}
pipeline "two" {
  source "sift" "in" {
    listen = "127.0.0.1:50052"
    until  = pipeline.three
  }
  source "sift" "second" {
    listen = "127.0.0.1:50053"
    until  = pipeline.three
  }
  transport "parquet" "out" {
    dir = "/two"
  }
}
pipeline "three" {
  source "sift" "in" {
    listen = "127.0.0.1:50054"
    until  = pipeline.one
  }
  transport "parquet" "out" {
    dir = "/three"
  }
}
pipeline "self" {
  source "host" "in" {
    until = pipeline.self
  }
  transport "parquet" "out" {
    dir = "/self"
  }
}
pipeline "wrong" {
  source "host" "a" {
    until = pipeline.tow
  }
  source "host" "b" {
    until = "two"
  }
  source "host" "c" {
    until = two
  }
  source "host" "d" {
    until = 5 + 5
  }
  transport "parquet" "out" {
    dir   = "/wrong"
    until = pipeline.one
  }
}
