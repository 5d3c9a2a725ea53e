asset = "outside"

pipline "a" {
}

backup {
}

local {
  x = 1
}

pipeline "a" {
  sauce "host" "x" {}
  checkpont {
    interval = "1s"
  }
  checkpoint = { interval = "1s" }
  asset {
    name = "x"
  }

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }

}
