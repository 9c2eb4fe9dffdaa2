variable "name" {
  description = "The beginning of every resource's name."
  type        = string
}

variable "region" {
  description = "The region, for the logs."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "public_subnet_ids" {
  description = "Where the load balancer stands."
  type        = list(string)
}

variable "private_subnet_ids" {
  description = "Where tasks run."
  type        = list(string)
}

variable "certificate_arn" {
  description = "The API's certificate."
  type        = string
}

variable "api_clients" {
  description = "Address ranges that may call the API."
  type        = list(string)
}

variable "image" {
  description = "The nearcast image."
  type        = string
}

variable "environment" {
  description = "Settings by their environment names."
  type        = map(string)
}

variable "secrets" {
  description = "Secret settings by their environment names, as ARNs."
  type        = map(string)
}

variable "serve" {
  description = "The API's tasks."
  type = object({
    cpu    = number
    memory = number
    min    = number
    max    = number
  })
}

variable "ingest" {
  description = "The workers' tasks."
  type = object({
    cpu    = number
    memory = number
    count  = number
  })
}
