pipeline "p" {

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }

  flow "" {
    channel "a" {
      type = "double"
    }
  }
  flow "types" {
    channel "a" {
      type = "doubel"
    }
  }
}
pipeline "q" {

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake2"
  }

  flow "f" {
    channel "mode" {
      type = "enum"
    }
    channel "mode2" {
      type = "enum"
      enum = { a = 1, b = 1, c = -1 }
    }
    channel "plain" {
      type = "double"
      enum = { a = 1 }
      element "x" {
        index     = 0
        bit_count = 1
      }
    }
    channel "bits" {
      type = "bit_field"
      element "x" {
        index     = -1
        bit_count = 65
      }
    }
  }
}
