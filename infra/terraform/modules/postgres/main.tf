# RDS for PostgreSQL in two zones, encrypted, reached by TLS only.

resource "aws_security_group" "this" {
  name   = "${var.name}-postgres"
  vpc_id = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = var.clients
  from_port                    = 5432
  to_port                      = 5432
  ip_protocol                  = "tcp"
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.name}-"
  family      = "postgres${split(".", var.engine_version)[0]}"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "random_password" "this" {
  length  = 40
  special = false
}

resource "aws_db_instance" "this" {
  identifier                   = var.name
  engine                       = "postgres"
  engine_version               = var.engine_version
  instance_class               = var.instance_class
  allocated_storage            = var.storage_gib
  max_allocated_storage        = var.max_gib
  storage_type                 = "gp3"
  storage_encrypted            = true
  multi_az                     = true
  db_name                      = "nearcast"
  username                     = "nearcast"
  password                     = random_password.this.result
  db_subnet_group_name         = aws_db_subnet_group.this.name
  parameter_group_name         = aws_db_parameter_group.this.name
  vpc_security_group_ids       = [aws_security_group.this.id]
  backup_retention_period      = 14
  performance_insights_enabled = true
  auto_minor_version_upgrade   = true
  deletion_protection          = var.protect
  skip_final_snapshot          = !var.protect
  final_snapshot_identifier    = "${var.name}-last"
}

resource "aws_secretsmanager_secret" "uri" {
  name = "${var.name}/postgres-uri"
}

resource "aws_secretsmanager_secret_version" "uri" {
  secret_id     = aws_secretsmanager_secret.uri.id
  secret_string = "postgres://nearcast:${random_password.this.result}@${aws_db_instance.this.address}:5432/nearcast?sslmode=require"
}
