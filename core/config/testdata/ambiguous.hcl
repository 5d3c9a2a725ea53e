pipeline "p" {
  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }
  flow "a" {
    channel "b.c" {
      type = "double"
    }
  }
  flow "a.b" {
    channel "c" {
      type = "double"
    }
  }
  rule "r" {
    channels = {
      x = "a.b.c"
      y = { flow = "a", channel = "b.c" }
      z = "other.b.c"
    }
    when = "x > y"
  }
  rule "s" {
    absent {
      channel = "a.b.c"
      for     = "1s"
    }
  }
}
