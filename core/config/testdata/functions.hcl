locals {
  a = env("NOT_SET")
  b = env("HOME_DIR", "x", "y")
  c = file("testdata/does-not-exist")
  d = file("testdata")
  e = timeadd("yesterday", "1s")
  f = timeadd("2026-05-01T12:00:00Z", "1 hour")
  g = format("%9999d", 5)
  h = bytes("5 apples")
  i = seconds("5")
  j = replace("x", "", "y")
  k = upper(1, 2)
  l = upper([])
  m = jsondecode("{")
  n = [for a in range(1000) : [for b in range(1000) : a]]
  o = 1e308 * 10
  p = fromunixtime(1e30)
  q = timediff("x", "2026-05-01T12:00:00Z")
  r = file("testdata/not_text.hcl")
  s = unixtime("")
}
pipeline "p" {

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }

}
