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

variable "engine_version" {
  description = "PostgreSQL's version."
  type        = string
}

variable "instance_class" {
  description = "The instance's kind."
  type        = string
}

variable "storage_gib" {
  description = "Disk at the start."
  type        = number
}

variable "max_gib" {
  description = "Disk that it may grow to."
  type        = number
}

variable "protect" {
  description = "Keep it from being deleted."
  type        = bool
}
