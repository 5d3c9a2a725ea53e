pipeline "p" {

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }

  rule "none" {
    channels = { a = "f.a" }
  }
  rule "two_forms" {
    channels = { a = "f.a" }
    when     = "a > 1"
    absent {
      channel = "f.a"
      for     = "2s"
    }
  }
  rule "hold_and_clear" {
    channels   = { a = "f.a" }
    when       = "a > 1"
    hold       = "1s"
    clear_when = "a < 1"
  }
  rule "hold_in_sequence" {
    channels = { a = "f.a" }
    hold     = "1s"
    sequence {
      first  = "a > 1"
      then   = "a < 1"
      within = "0s"
    }
  }
  rule "negative" {
    channels = { a = "f.a" }
    when     = "a > 1"
    hold     = "0s"
    lateness = "-1s"
    idle     = "-1s"
    max_wait = "0s"
    warmup   = "-5s"
  }
  rule "no_channels" {
    when = "true"
  }
  rule "absent_channels" {
    channels = { a = "f.a" }
    absent {
      channel = "nodot"
      for     = "0s"
    }
  }
  rule "references" {
    channels = {
      a       = "nodot"
      b       = ".x"
      "1c"    = "f.a"
      d       = 5
      e       = { flow = "f" }
      f       = { flow = "f", channel = "a", latenes = "1s" }
      g       = { flow = "f", channel = 5, optional = "yes", default = [1], lateness = "1" }
    }
    when = "a > 1"
  }
  rule "revise" {
    channels = { a = "f.a" }
    when     = "a > 1"
    late     = "revise"
  }
  rule "window" {
    channels      = { a = "f.a" }
    when          = "a > 1"
    revise_window = "10m"
  }
  rule "allowed" {
    channels = { a = "f.a" }
    when     = 5
    late     = "ignore"
    progress = "row"
    labels   = { severity = 5 }
    wen      = "x"
  }
  rule "evaluators" {
    channels = { a = "f.a" }
    when     = "a > 1"
    evaluator "zscor" {
    }
    evaluator "zscore" {
      treshold = 5
    }
    evaluator "zscore" {
    }
  }
  rule "incomplete" {
    channels = { a = "f.a" }
    not_followed {
      first = "a > 1"
    }
  }
  rule "negative" {
    absent {
      channel = "f.a"
      for     = "1s"
    }
  }
}
