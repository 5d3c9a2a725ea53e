pipeline "a" {
  asset = "${1 +}"
  source "host" "in" { a = 1, b = 2 }
  transport "parquet" "out" {
    dir = [1, 2
    other == 3
  }
}
