pipeline "a" {
  asett         = "x"
  drain_timeoot = "5s"
  nothing_like_it = 1

  source "csv" "in" {
    path  = "/x.csv"
    pth   = "/y.csv"
    untill = pipeline.a
    gathr  = "1s"
    idleexit = "1s"
    time {
      column = "t"
      colunm = "t"
    }
    tiem {
      column = "t"
    }
    plugin {
      sandbocks = "on"
    }
  }
  encoder "ingestion_config" {
    clientkey = "x"
  }
  transport "sift" "out" {
    uri     = "https://x"
    api_key = secret::env("SECRET")
    api_kee = "a literal that must not be shown"
    requird = false
    flow    = ["x"]
    queues {
      backup = 5
    }
    retry {
      maximum = "5s"
    }
  }
  asset = "x"
}
