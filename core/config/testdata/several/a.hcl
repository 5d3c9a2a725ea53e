variable "x" {
  default = "1"
}
pipeline "one" {
  source "sift" "in" {
    until = pipeline.two
  }
  transport "parquet" "out" {
    dir = "/one"
  }
}
