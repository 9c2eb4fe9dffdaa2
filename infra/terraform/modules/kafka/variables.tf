variable "name" {
  description = "The beginning of every resource's name."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "One private subnet for each zone."
  type        = list(string)
}

variable "clients" {
  description = "The security group that may connect."
  type        = string
}

variable "kafka_version" {
  description = "Kafka's version, as MSK names it."
  type        = string
}

variable "instance_type" {
  description = "The brokers' kind."
  type        = string
}

variable "brokers_per_zone" {
  description = "Brokers in each zone."
  type        = number
}

variable "volume_gib" {
  description = "A broker's disk."
  type        = number
}
