# nearcast on AWS: its own network, MSK, RDS for PostgreSQL, ElastiCache, and the service on ECS Fargate. MongoDB, Milvus
# and Neo4j are had from elsewhere and named by address and secret.

module "network" {
  source = "./modules/network"

  name = var.name
  cidr = var.cidr
}

module "kafka" {
  source = "./modules/kafka"

  name             = var.name
  vpc_id           = module.network.vpc_id
  subnet_ids       = module.network.private_subnet_ids
  clients          = module.service.security_group_id
  kafka_version    = var.kafka.version
  instance_type    = var.kafka.instance_type
  brokers_per_zone = var.kafka.brokers_per_zone
  volume_gib       = var.kafka.volume_gib
}

module "postgres" {
  source = "./modules/postgres"

  name           = var.name
  vpc_id         = module.network.vpc_id
  subnet_ids     = module.network.private_subnet_ids
  clients        = module.service.security_group_id
  engine_version = var.postgres.version
  instance_class = var.postgres.instance_class
  storage_gib    = var.postgres.storage_gib
  max_gib        = var.postgres.max_gib
  protect        = var.protect
}

module "cache" {
  source = "./modules/cache"

  name       = var.name
  vpc_id     = module.network.vpc_id
  subnet_ids = module.network.private_subnet_ids
  clients    = module.service.security_group_id
  node_type  = var.cache_node_type
}

locals {
  # What every nearcast process is told, under the names of its configuration.
  environment = {
    NEARCAST__STORES__LOG            = "kafka"
    NEARCAST__STORES__LEDGER         = "mongodb"
    NEARCAST__STORES__VECTORS        = "milvus"
    NEARCAST__STORES__GRAPH          = "neo4j"
    NEARCAST__STORES__ENGAGEMENT     = "postgres"
    NEARCAST__STORES__CACHE          = "redis"
    NEARCAST__KAFKA__BROKERS         = module.kafka.brokers
    NEARCAST__KAFKA__REPLICATION     = "3"
    NEARCAST__KAFKA__TLS__ENABLED    = "true"
    NEARCAST__KAFKA__SASL__MECHANISM = "SCRAM-SHA-512"
    NEARCAST__KAFKA__SASL__USER      = module.kafka.user
    NEARCAST__MILVUS__ADDRESS        = var.milvus_address
    NEARCAST__NEO4J__URI             = var.neo4j_uri
    NEARCAST__NEO4J__TLS__ENABLED    = tostring(var.neo4j_tls)
    NEARCAST__NEO4J__USER            = var.neo4j_user
    NEARCAST__MILVUS__TLS__ENABLED   = tostring(startswith(var.milvus_address, "https://"))
    NEARCAST__LOG__FORMAT            = "json"
  }

  # The same, for what must not be seen: names to secrets whose whole value is the setting's.
  secrets = merge({
    NEARCAST__KAFKA__SASL__PASSWORD = module.kafka.password_secret_arn
    NEARCAST__MONGODB__URI          = var.mongodb_uri_secret_arn
    NEARCAST__NEO4J__PASSWORD       = var.neo4j_password_secret_arn
    NEARCAST__POSTGRES__URI         = module.postgres.uri_secret_arn
    NEARCAST__REDIS__URI            = module.cache.uri_secret_arn
  }, var.milvus_token_secret_arn == null ? {} : { NEARCAST__MILVUS__TOKEN = var.milvus_token_secret_arn })
}

module "service" {
  source = "./modules/service"

  name               = var.name
  region             = var.region
  vpc_id             = module.network.vpc_id
  public_subnet_ids  = module.network.public_subnet_ids
  private_subnet_ids = module.network.private_subnet_ids
  certificate_arn    = var.certificate_arn
  api_clients        = concat([var.cidr], var.api_clients)
  image              = var.image
  environment        = local.environment
  secrets            = local.secrets
  serve              = var.serve
  ingest             = var.ingest
}
